"""``fadiag train``: from a file, on from a checkpoint, and as a branch of another run."""

import pytest
from click.testing import CliRunner

from fadiag.cli import main
from fadiag.store import open_run, run_info

CONFIG = """
[data]
train_samples = 100
test_samples = 40
[model]
hidden = [8, 8]
[train]
epochs = 2
batch_size = 20
checkpoint_every = 4
[record]
every = 5
probe_samples = 20
redraws = 0
gate_draws = 0
"""


def invoke(*words):
    return CliRunner().invoke(main, ["train", *map(str, words)])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    (folder / "run.toml").write_text(CONFIG)
    done = invoke(folder / "run.toml", "-o", folder / "run.zarr", "--device", "cpu")
    assert done.exit_code == 0, done.output
    return folder / "run.zarr"


def test_a_branch_has_the_runs_configuration_and_what_is_set(run, tmp_path) -> None:
    out = tmp_path / "branch.zarr"
    done = invoke("--from", f"{run}@8", "--set", "optimizer.learning_rate=0.5", "-o", out, "--device", "cpu")
    assert done.exit_code == 0, done.output
    config = run_info(out).manifest["config"]
    assert config["optimizer"]["learning_rate"] == 0.5
    assert config["data"]["train_samples"] == 100
    assert open_run(out)["log"].step.values.tolist() == [8, 9, 10]
    assert "warning: condition 'fa' and seed 0 are those of" in done.stderr


def test_a_branch_with_its_own_condition_gives_no_warning(run, tmp_path) -> None:
    out = tmp_path / "branch.zarr"
    done = invoke("--from", f"{run}@8", "--set", "condition=fa-slow", "-o", out, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert run_info(out).manifest["meta"]["condition"] == "fa-slow"
    assert "warning" not in done.stderr


def test_resume_leaves_a_complete_run_alone(run) -> None:
    before = run_info(run)
    done = invoke(run.with_name("run.toml"), "-o", run, "--resume", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert run_info(run) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give a CONFIG.toml, or --from RUN@STEP"),
        (("c.toml", "--from", "run.zarr@3"), "give a CONFIG.toml, or --from RUN@STEP"),
        (("--from", "run.zarr"), "'run.zarr' is not RUN@STEP, as in run.zarr@500"),
        (("--from", "run.zarr@x"), "'run.zarr@x' is not RUN@STEP"),
        (
            ("--from", "run.zarr@3", "--resume"),
            "--resume goes on in a run's own store, --from",
        ),
    ],
)
def test_usage(words, message) -> None:
    done = invoke(*words)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_branch_that_cannot_be_is_one_line(run, tmp_path) -> None:
    for words, message in (
        ((f"{run}@7",), f"error: {run} has no checkpoint of step 7; it has those of steps 4, 8"),
        (
            (f"{run}@8", "--set", "seeds.init=1"),
            "error: seeds.init is 1, and 0 in the",
        ),
        ((f"{run}@8", "--set", "rul=1"), f"error: {run}@8: unknown key 'rul'; did you mean 'rule'?"),
    ):
        done = invoke("--from", *words, "-o", tmp_path / "branch.zarr")
        assert done.exit_code == 1
        assert done.stderr.splitlines()[-1].startswith(message)
