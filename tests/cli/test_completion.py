"""Completion of names in a shell, and what it may load."""

import subprocess
import sys

import numpy as np
import pytest
from click.shell_completion import ShellComplete

from fadiag.cli import main
from fadiag.cli.completion import FIGURE_NAMES
from fadiag.figures import FIGURES, ON_REQUEST
from fadiag.results import save_results
from fadiag.studies import shipped_studies
from tests.results.synthetic_results import SMALL, synthetic


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return save_results(
        synthetic(**SMALL, seeds=(0, 1)), tmp_path_factory.mktemp("complete") / "results.zarr"
    )


def complete(line, **words):
    """Return what the line, whose last word is incomplete, may end with."""
    *args, incomplete = [word.format(**words) for word in line.split(" ")]
    items = ShellComplete(main, {}, "fadiag", "_FADIAG_COMPLETE").get_completions(args, incomplete)
    return [item.value if item.type == "plain" else item.type for item in items]


def test_the_names_of_the_figures_are_those_that_there_are() -> None:
    assert tuple(figure.name for figure in (*FIGURES, *ON_REQUEST)) == FIGURE_NAMES


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ta", ["table"]),
        ("figure rank_o", ["rank_over_training"]),
        ("figure rank_gap ", ["file"]),
        ("figure --all ", ["file"]),
        ("figure rank_gap {results} --cond", ["--conditions"]),
        ("figure rank_gap {results} --conditions ", ["bp", "fa"]),
        ("figure rank_gap {results} --conditions bp f", ["fa"]),
        ("figure --all {results} --conditions bp f", ["fa"]),
        ("figure --all {results} --conditions bp --layers f", ["fc1"]),
        ("figure --all {results} --conditions bp --", [...]),
        ("table {results} --metric error_c", ["error_cosine"]),
        ("table {results} --metric error_cosine test", ["test_accuracy"]),
        ("table {results} --layer ", ["fc1", "out"]),
        ("table {results} --conditions=b", ["bp"]),
        ("compare {results} --conditions ", ["bp", "fa"]),
        ("compare {results} --conditions bp f", ["fa"]),
        ("compare {results} --metric error_o", ["error_overlap"]),
        ("compare ", ["file"]),
        ("table nowhere --conditions ", []),
        ("table --conditions ", []),
        ("study zz", ["file"]),
    ],
)
def test_names_are_completed(line, found, results) -> None:
    got = complete(line, results=results)
    assert ("--layers" in got) if found == [...] else (got == found)


def test_studies_are_completed() -> None:
    assert complete("study ") == list(shipped_studies())


def test_a_name_that_a_shell_cannot_show_is_left_out(tmp_path) -> None:
    tree = synthetic(**SMALL)
    log = tree["log"].to_dataset()
    names = [str(v).replace("fa", "fa\x1b[2J") for v in log["condition"].values]
    tree["log"] = log.assign_coords(condition=("run", np.array(names, object)))
    del tree["probe"], tree["state"]
    path = save_results(tree, tmp_path / "results.zarr")
    assert complete("table {path} --conditions ", path=path) == ["bp"]


def test_completion_loads_nothing_slow(results) -> None:
    """Names of figures and metrics need click alone, and labels zarr: the user waits for it."""
    code = (
        "import sys\n"
        "from click.shell_completion import ShellComplete\n"
        "from fadiag.cli import main\n"
        "shell = ShellComplete(main, {}, 'fadiag', '')\n"
        "def ask(*words): return shell.get_completions(list(words), '')\n"
        "slow = {'torch', 'scipy', 'xarray', 'pandas', 'numba', 'matplotlib', 'rich'}\n"
        "assert ask('figure') and ask('study') and ask('table', sys.argv[1], '--metric') and ask()\n"
        "assert not (slow | {'numpy', 'zarr', 'msgspec'}) & set(sys.modules), sys.modules\n"
        "assert ask('table', sys.argv[1], '--conditions')\n"
        "assert not slow & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(results)], check=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_lines_of_the_manual_give_a_script(shell) -> None:
    env = {"_FADIAG_COMPLETE": f"{shell}_source"}
    code = "from fadiag.cli import main; main(prog_name='fadiag')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0
    assert "_FADIAG_COMPLETE" in done.stdout
