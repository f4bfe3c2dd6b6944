"""Leave the report out of small studies: it draws every figure, and has tests of its own."""

import pytest

from fadiag.studies.outputs import write


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies of a module's fixtures write their report; those of a test do not."""
    monkeypatch.setattr(write, "write_report", lambda results, path, **options: path.touch())
