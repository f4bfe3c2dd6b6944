"""Data flows one way: which package may import which, and what stays unloaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fadiag

PACKAGE = Path(fadiag.__file__).parent

#: What each package may import: other packages of fadiag, and the heavy third parties.
MAY_IMPORT = {
    "errors": set(),
    "cores": set(),
    "paths": set(),
    "signals": set(),
    "spectra": {"errors", "scipy", "numba"},
    "store": {"errors", "paths", "zarr", "xarray"},
    "rules": {"errors", "torch"},
    "capture": {"errors", "paths", "signals", "torch", "store", "spectra", "rules"},
    "testing": {"errors", "torch", "capture"},
    "hosts": {"errors", "capture"},
    "training": {"errors", "paths", "torch", "rules", "capture", "store"},
    "results": {"errors", "paths", "xarray", "zarr", "pandas", "spectra"},
    # scipy: loaded for its BLAS, which is held at one thread; no function of it is called.
    "analysis": {
        "errors",
        "paths",
        "signals",
        "cores",
        "xarray",
        "store",
        "spectra",
        "results",
        "pandas",
        "scipy",
    },
    # store: its `printable` escapes control characters; pandas: the table of numbers.
    "figures": {"errors", "paths", "signals", "store", "xarray", "pandas", "matplotlib", "results"},
    # analysis: `compare` gives the paired differences.
    "report": {
        "errors",
        "paths",
        "spectra",
        "store",
        "xarray",
        "matplotlib",
        "analysis",
        "figures",
        "results",
    },
    "studies": {
        "errors",
        "paths",
        "cores",
        "torch",
        "xarray",
        "store",
        "spectra",
        "results",
        "analysis",
        "figures",
        "report",
        "training",
        "matplotlib",
    },
}
#: The rooms of a package from the ground up: a room imports from the rooms before it in its row.
ROOMS = {
    "rules": (
        "rule",
        "layers",
        "catalog",
        "feedback",
        "layer_choice",
        "computed_weights",
        "left_out",
        "example",
        "give_feedback",
        "intervene",
        "convert",
    ),
    "capture": (
        "arguments",
        "warn",
        "layers",
        "signals",
        "tracing",
        "passes",
        "checks",
        "streams",
        "session",
        "recorder",
        "array_recorder",
    ),
    "signals": ("spec", "table", "names"),
    "store": ("names", "values", "layout", "axes", "lock", "read", "write", "tools"),
    "spectra": ("validate", "linalg", "ranks", "alignment", "statistics", "updates"),
    "studies": ("declared", "runs", "outputs", "plan", "run", "rounding"),
    "figures": (
        "look",
        "words",
        "base",
        "strokes",
        "rank",
        "credit",
        "study",
        "maps",
        "panels",
        "compositions",
        "catalog",
        "save",
    ),
    "report": (
        "page",
        "question",
        "differences",
        "verdict",
        "alerts",
        "values",
        "tables",
        "provenance",
        "methods",
        "downloads",
        "pictures",
        "write",
    ),
    "analysis": (
        "threads",
        "metrics",
        "labelled",
        "live_state",
        "cluster",
        "plan",
        "stream_provenance",
        "null_attributes",
        "attributes",
        "meta_coordinates",
        "assemble",
        "analyze",
        "design",
        "rounding",
        "compare",
        "effect",
        "onsets",
        "overlap_matrix",
    ),
}
WATCHED = {"torch", "zarr", "xarray", "scipy", "numba", "matplotlib", "pandas", *MAY_IMPORT, "cli"}


def imports_of(path: Path) -> set[str]:
    """Return the packages of fadiag and the top-level third parties that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = (
                [f"fadiag.{alias.name}" for alias in node.names] if node.module == "fadiag" else [node.module]
            )
        else:
            continue
        for name in names:
            parts = name.split(".")
            found.add(parts[1] if parts[0] == "fadiag" and len(parts) > 1 else parts[0])
    return found


def unit_of(path: Path) -> str:
    """Return the package (or top-level module) of fadiag that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


FILES = [p for p in sorted(PACKAGE.rglob("*.py")) if unit_of(p) in MAY_IMPORT]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_data(path: Path) -> None:
    unit = unit_of(path)
    forbidden = (imports_of(path) & WATCHED) - MAY_IMPORT[unit] - {unit}
    assert not forbidden, f"{path} imports {sorted(forbidden)}; see docs/architecture.md"


def room_of(module: str) -> tuple[str, str]:
    """Return the package of a module of fadiag and its room; ("", "") if it is in none."""
    parts = module.split(".")
    return (parts[1], parts[2]) if len(parts) > 2 and parts[0] == "fadiag" else ("", "")


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_are_all_in_the_row(package: str) -> None:
    inside = {path.name.removesuffix(".py") for path in (PACKAGE / package).iterdir()}
    assert inside - {"__init__", "__pycache__"} == set(ROOMS[package])


@pytest.mark.parametrize("package", ROOMS)
def test_a_room_imports_only_from_rooms_below_it(package: str) -> None:
    row = ROOMS[package]
    upwards = []
    for path in sorted((PACKAGE / package).rglob("*.py")):
        place = path.relative_to(PACKAGE / package).parts[0].removesuffix(".py")
        if place == "__init__":  # the package's face names what all its rooms offer
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                home, room = room_of(node.module)
                if home == package and row.index(room) > row.index(place):
                    upwards.append(f"{path.relative_to(PACKAGE)} imports {node.module}")
    assert not upwards


def test_every_package_is_held() -> None:
    units = {unit_of(p) for p in PACKAGE.rglob("*.py")}
    assert units - {"__init__", "__main__", "cli"} == set(MAY_IMPORT)


def loaded_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


def test_import_fadiag_is_light() -> None:
    heavy = {"torch", "numpy", "scipy", "xarray", "zarr", "numba", "matplotlib", "click", "rich"}
    assert not loaded_after("import fadiag") & heavy


def test_offline_work_imports_no_torch() -> None:
    packages = ["analysis", "store", "spectra", "results", "figures", "report"]
    imports = (f"import fadiag.{p}, sys; assert 'torch' not in sys.modules, {p!r}" for p in packages)
    assert "torch" not in loaded_after("\n".join(imports))


def test_analysis_imports_no_torch_even_when_it_works(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np, xarray as xr\n"
        "from fadiag.analysis import analyze\n"
        "clock = {'step': [0, 1]}\n"
        "fc = xr.Dataset({'error': (('step', 'sample', 'out'), np.random.rand(2, 8, 4))},"
        " attrs={'name': 'fc', 'order': 0})\n"
        "probe = xr.Dataset(coords=clock, attrs={'kind': 'probe'})\n"
        "tree = xr.DataTree.from_dict({'/probe': probe, '/probe/fc': fc})\n"
        f"analyze(tree, output={str(tmp_path / 'results.zarr')!r})\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_spectra_import_neither_zarr_nor_xarray() -> None:
    assert not loaded_after("import fadiag.spectra") & {"zarr", "xarray", "torch"}


def test_public_names_resolve() -> None:
    for name in fadiag.__all__:
        assert getattr(fadiag, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'recorder'"):
        _ = fadiag.recorder


def test_help_loads_only_click() -> None:
    # `fadiag --help` promises to answer within 0.4 s; what would break that is an eager import.
    heavy = {"torch", "numpy", "scipy", "xarray", "zarr", "numba", "matplotlib", "msgspec", "rich", "jinja2"}
    run = "CliRunner().invoke(fadiag.cli.main, ['--help'])"
    statement = f"import fadiag.cli\nfrom click.testing import CliRunner\n{run}"
    assert not loaded_after(statement) & heavy
