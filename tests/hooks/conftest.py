"""The recipes as modules."""

import importlib.util
from pathlib import Path

import pytest

HOOKS = Path(__file__).parents[2] / "hooks"


@pytest.fixture
def recipe():
    """Return the function that imports a recipe, or skips the test if its host is not installed."""

    def load(name, host):
        pytest.importorskip(host)
        spec = importlib.util.spec_from_file_location(name, HOOKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
