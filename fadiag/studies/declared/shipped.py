"""Find the studies that come with fadiag by their names."""

from pathlib import Path

from fadiag.errors import InputError
from fadiag.paths import absolute_path

__all__ = ["find_study", "shipped_studies"]

_PACKAGE = Path(__file__).parents[1]
#: The wheel holds the studies in the package; a checkout has them in a folder of their own.
_HOMES = (_PACKAGE / "shipped", _PACKAGE.parents[1] / "analyses")


def shipped_studies() -> dict[str, Path]:
    """Return the files of the studies that come with fadiag, by name.

    Examples
    --------
    >>> "demo" in shipped_studies()
    True
    """
    return {path.stem: path for home in _HOMES for path in sorted(home.glob("*.toml"))}


def find_study(name: str) -> Path:
    """Return the file of a study: a path to a TOML file, or the name of a study that comes with fadiag.

    Raises
    ------
    InputError
        It is neither. The error lists the names.

    Examples
    --------
    >>> find_study("demo").name
    'demo.toml'
    """
    path = absolute_path(name)
    if path.suffix == ".toml":
        return path
    shipped = shipped_studies()
    if name not in shipped:
        names = ", ".join(shipped)
        raise InputError(f"no study {name!r}: fadiag has {names}, and the name of a file ends in .toml")
    return shipped[name]
