"""What a user sees after ``import fadiag``."""

import doctest
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import fadiag

PACKAGES = (
    "analysis",
    "capture",
    "figures",
    "report",
    "results",
    "rules",
    "spectra",
    "store",
    "studies",
    "training",
)


def test_packages_are_there_after_import() -> None:
    """Case 09: each in a process that has touched nothing else."""
    code = (
        "import sys, fadiag\n"
        "assert not {'torch', 'xarray', 'zarr', 'matplotlib'} & set(sys.modules)\n"
        "fadiag.figures.FIGURES, fadiag.spectra.effective_rank\n"
        "assert 'torch' not in sys.modules\n"
        "fadiag.capture.exact_layers, fadiag.capture.Live, fadiag.capture.Subset\n"
        f"for name in {PACKAGES}: getattr(fadiag, name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_dir_shows_public_names_only() -> None:
    assert "import_module" not in dir(fadiag)
    for name in dir(fadiag):
        assert hasattr(fadiag, name)
    for package in PACKAGES:
        module = import_module(f"fadiag.{package}")
        assert dir(module) == sorted(module.__all__), package
    with pytest.raises(AttributeError, match="module 'fadiag' has no attribute 'recorder'"):
        fadiag.recorder  # noqa: B018


def test_the_version_has_one_source() -> None:
    root = Path(fadiag.__file__).parents[1]
    assert '"version"' in (root / "pyproject.toml").read_text().split("[project]")[1].split("[")[1]
    assert "\nversion:" not in (root / "CITATION.cff").read_text()
    changelog = (root / "CHANGELOG.md").read_text()
    assert changelog.split("\n## ")[1].startswith(fadiag.__version__)


def test_every_public_function_and_class_has_an_example_that_runs() -> None:
    bare = set()
    for package in ("fadiag", *(f"fadiag.{name}" for name in (*PACKAGES, "errors", "testing"))):
        module = import_module(package)
        for name in module.__all__:
            found = getattr(module, name)
            is_error = inspect.isclass(found) and issubclass(found, BaseException)
            if is_error or not (inspect.isclass(found) or inspect.isfunction(found)):
                continue
            text = inspect.cleandoc(found.__doc__ or "").partition("\nExamples\n--------\n")[2]
            examples = doctest.DocTestParser().get_examples(text)
            if all(example.options.get(doctest.SKIP) for example in examples):
                bare.add(f"{package}.{name}")
    assert not bare
