"""The advice of fadiag.cli."""

import shlex
import shutil

import pytest
from click.testing import CliRunner

import fadiag.figures
from fadiag.cli import main
from fadiag.results import load_results, save_results
from fadiag.store import run_info
from tests.advice.advice import Table
from tests.cli.test_train import CONFIG
from tests.conftest import build_run, record_run
from tests.results.synthetic_results import SMALL, synthetic

ADVICE = Table()
FEW = "error_effective_rank_raw"


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


def invoke(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def works(*words):
    done = invoke(*words)
    assert done.exit_code == 0, done.output
    return done.output


def fails(provoked, *words):
    """Run a command that fails; hear what it says, with the lines of click's box joined."""
    with provoked() as heard:
        done = invoke(*words)
        assert done.exit_code in (1, 2), done.output
        heard.append(" ".join(done.stderr.split()))


def train(at):
    """Train in a folder by a configuration; return the store, which has checkpoints of the steps 4 and 8."""
    (at / "run.toml").write_text(CONFIG)
    works("train", at / "run.toml", "-o", at / "run.zarr", "--device", "cpu")
    return at / "run.zarr"


@ADVICE.story("Step by step:")
def _(at, provoked):
    with provoked() as heard:
        heard.append(works("--help"))
    steps = [
        shlex.split(line)[1:]
        for line in heard[-1].partition("Step by step:")[2].splitlines()
        if "  fadiag " in line
    ]
    assert [step[0] for step in steps] == ["train", "inspect", "analyze", "figure", "report"]
    (at / "config.toml").write_text(CONFIG + "signals = ['error']\nstate = []\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(at)
        for step in steps:
            works(*step)
    assert {"run.zarr", "results.zarr", "rank.pdf", "report.html"} <= {path.name for path in at.iterdir()}


# Training.


@ADVICE.story("give a CONFIG.toml, or --from RUN@STEP")
def _(at, provoked):
    fails(provoked, "train", "-o", at / "run.zarr")
    store = train(at)
    works("train", "--from", f"{store}@8", "-o", at / "branch.zarr", "--device", "cpu")
    assert run_info(at / "branch.zarr").manifest["meta"]["branched_from"] == "run.zarr@8"
    for says, wrong, right in (
        ("is not RUN@STEP, as in run.zarr@500", store, f"{store}@8"),
        ("is not RUN@STEP, as in run.zarr@500", f"{store}@last", f"{store}@8"),
    ):
        assert says in " ".join(invoke("train", "--from", wrong, "-o", at / "b.zarr").stderr.split())
        works("train", "--from", right, "-o", at / f"{len(list(at.iterdir()))}.zarr", "--device", "cpu")


@ADVICE.story("set another, as --set condition=NAME")
def _(at, provoked):
    branch = ("train", "--from", f"{train(at)}@8", "--device", "cpu")
    with provoked() as heard:
        heard.append(" ".join(invoke(*branch, "-o", at / "same.zarr").stderr.split()))
    done = invoke(*branch, "--set", "condition=other", "-o", at / "other.zarr")
    assert (done.exit_code, "warning" in done.stderr) == (0, False)


@ADVICE.story("is not KEY=VALUE, as in optimizer.learning_rate=0.1")
def _(at, provoked):
    (at / "run.toml").write_text(CONFIG)
    fails(provoked, "train", at / "run.toml", "--set", "optimizer.learning_rate", "-o", at / "run.zarr")
    setting = ("--set", "optimizer.learning_rate=0.1", "--set", "train.epochs=1")
    works("train", at / "run.toml", *setting, "-o", at / "run.zarr", "--device", "cpu")
    assert run_info(at / "run.zarr").manifest["meta"]["learning_rate"] == 0.1


@ADVICE.story("exists; take another path")
def _(at, provoked):
    (at / "run.toml").write_text(CONFIG)
    (at / "run.zarr").mkdir()
    words = ("train", at / "run.toml", "--set", "train.epochs=1", "--device", "cpu", "-o")
    fails(provoked, *words, at / "run.zarr")
    works(*words, at / "another.zarr")


@ADVICE.story("{store.parent} is a file; take a folder")
def _(at, provoked):
    (at / "run.toml").write_text(CONFIG)
    words = ("train", at / "run.toml", "--set", "train.epochs=1", "--device", "cpu", "-o")
    fails(provoked, *words, at / "run.toml" / "run.zarr")
    works(*words, at / "runs" / "run.zarr")


# Stores and tables.


@ADVICE.story("would be lost; write to another file, -o OTHER.zarr, or replace it, -o {_DEFAULT}")
def _(at, provoked):
    runs = [record_run(build_run(seed), at / f"{seed}.zarr") for seed in (0, 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(at)
        works("analyze", *runs, "--metric", FEW)
        fails(provoked, "analyze", runs[0], "--metric", FEW)
        assert load_results("results.zarr")["probe"].sizes["run"] == 2
        works("analyze", *runs, "--metric", FEW)  # the same runs go on
        works("analyze", runs[0], "--metric", FEW, "-o", "OTHER.zarr")
        works("analyze", runs[0], "--metric", FEW, "-o", "results.zarr")
        assert load_results("results.zarr")["probe"].sizes["run"] == 1


@ADVICE.story("take another copy, or record these runs again")
def _(at, provoked):
    store = record_run(build_run(0), at / "run.zarr")
    copy = shutil.copytree(store, at / "copy.zarr")
    (store / "state" / "fc1" / "weight" / "c.0.0.0").unlink()
    fails(provoked, "verify", store)
    works("verify", copy)
    shutil.rmtree(store)
    works("verify", record_run(build_run(0), store))


def _with_meta(at, text):
    record_run(build_run(0), at / "a.zarr")
    (at / "runs.csv").write_text(text.format(at=at))
    return "analyze", at / "a.zarr", "--meta", at / "runs.csv", "--metric", FEW, "-o", at / "results.zarr"


for _says, _text in (
    ("has two rows of {run}; give each run one", "path,condition\n{at}/a.zarr,x\n{at}/a.zarr,y\n"),
    ("its first line must name path and the entries, as in: path,condition,seed", "condition\nx\n"),
):

    @ADVICE.story(_says)
    def _(at, provoked, text=_text):
        fails(provoked, *_with_meta(at, text))
        shutil.rmtree(at / "a.zarr")
        works(*_with_meta(at, "path,condition,seed\n{at}/a.zarr,x,3\n"))
        found = load_results(at / "results.zarr")["probe"]
        assert (found["condition"].item(), found["seed"].item()) == ("x", 3)


@ADVICE.story("exists and holds no such table; choose another name")
def _(at, provoked):
    save_results(synthetic(**SMALL, seeds=(0, 1)), at / "both.zarr")
    (at / "notes.csv").write_text("mine\n")
    words = ("compare", *[at / "both.zarr"] * 2, "--conditions", "bp", "fa", "-o")
    fails(provoked, *words, at / "notes.csv")
    works(*words, at / "table.csv")
    works(*words, at / "table.csv")  # a table of its own it replaces
    assert (at / "notes.csv").read_text() == "mine\n"


# Words of the line.


def _both(at):
    return save_results(synthetic(**SMALL, seeds=(0, 1)), at / "both.zarr")


@ADVICE.story("give B, or --conditions A B to compare two conditions of A")
def _(at, provoked):
    results = _both(at)
    fails(provoked, "compare", results)
    works("compare", results, "--conditions", "bp", "fa")
    save_results(synthetic(("bp",)), at / "bp.zarr")
    works("compare", at / "bp.zarr", at / "bp.zarr")


@ADVICE.story("leave --metric out to see all")
def _(at, provoked):
    words = ("compare", _both(at), "--conditions", "bp", "fa")
    fails(provoked, *words, "--metric", "nosuch")
    assert "test_accuracy" in works(*words)


@ADVICE.story("to draw all figures of one, add --all")
def _(at, provoked):
    results = _both(at)
    fails(provoked, "figure", results)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fadiag.figures.FIGURES", fadiag.figures.FIGURES[4:5])
        patch.setattr("fadiag.figures.ON_REQUEST", ())
        works("figure", results, "--all", "-o", at / "figures")
    assert (at / "figures" / "accuracy_over_training.pdf").exists()


@ADVICE.story("leave the filter out to see all {len(TABLE)}")
def _(at, provoked):
    fails(provoked, "metrics", "nosuch")
    assert "error_cosine\n" in works("metrics")


@ADVICE.story("exclude each other; give one of them")
def _(at, provoked):
    results = _both(at)
    fails(provoked, "table", results, "--latex", "--csv")
    works("table", results, "--latex")
    works("table", results, "--csv")


@ADVICE.story("'-' is stdout, and this is written to a path; name one")
def _(at, provoked):
    results = _both(at)
    fails(provoked, "report", results, "-o", "-")
    works("report", results, "-o", at / "report.html")


@ADVICE.story("takes all words up to the next option, so put it last")
def _(at, provoked):
    results = _both(at)
    fails(provoked, "table", "--conditions", "bp", results)
    works("table", results, "--conditions", "bp")
