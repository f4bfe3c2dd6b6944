import os
import signal
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

import fadiag.cli
from fadiag.cli import main
from fadiag.cli.group import Group
from fadiag.errors import FadiagError, StoreError
from fadiag.results import save_results
from tests.results.synthetic_results import SMALL, synthetic

COMMANDS = ("demo", "study", "train", "watch", "inspect", "analyze", "figure", "table", "report")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return save_results(synthetic(**SMALL, seeds=(0, 1)), tmp_path_factory.mktemp("cli") / "results.zarr")


def invoke(*words, cwd=None):
    return CliRunner().invoke(main, [str(word) for word in words])


def command(*words, **options):
    env = {**os.environ, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    return subprocess.run(
        [sys.executable, "-m", "fadiag", *map(str, words)], capture_output=True, text=True, env=env, **options
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name) -> None:
    done = invoke(name, "--help")
    assert done.exit_code == 0
    assert "Usage:" in done.output
    assert name in invoke("--help").output


def test_commands_are_listed_in_the_order_of_the_work() -> None:
    assert list(main.commands)[: len(COMMANDS)] == list(COMMANDS)


@pytest.mark.parametrize(
    "words",
    [
        ("nosuch",),
        ("figure", "rank_gap"),
        ("figure", "nosuch", "x.zarr"),
        ("analyze",),
        ("demo", "--data", "mnist"),
        ("demo", "--data", "cifar10"),
        ("demo", "--jobs", "0"),
        ("train",),
        ("train", "c.toml", "--device", "tpu"),
        ("train", "c.toml", "-o", "."),
        ("train", "c.toml", "-o", f"{__file__}/run.zarr"),
        ("demo", "-o", __file__),
        ("analyze", "none.zarr", "-o", "results.txt"),
        ("figure", "rank_gap", "none.zarr", "-o", "rank.gif"),
        ("figure", "rank_gap", "none.zarr", "-o", "nowhere/rank.png"),
        ("figure", "rank_gap", "none.zarr", "--style", "vogue"),
        ("report", "none.zarr", "-o", "nowhere/report.html"),
        ("compare", "none.zarr", "none.zarr", "-o", "table.png"),
    ],
    ids=" ".join,
)
def test_usage_errors_exit_2(words) -> None:
    done = invoke(*words)
    assert done.exit_code == 2
    assert "Error: " in done.stderr


def test_train_tells_a_taken_path_in_the_commands_own_words(tmp_path) -> None:
    done = invoke("train", "nosuch.toml", "-o", tmp_path)
    assert f"Invalid value for '-o' / '--out': {tmp_path} exists; take another path\n" in done.stderr


def test_an_unknown_figure_names_the_known() -> None:
    assert "; there are rank_by_depth, rank_gap, rank_over" in invoke("figure", "ranks", "x").stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("figure", "rank_gap", "nosuch.zarr"), "no results at {here}/nosuch.zarr"),
        (("report", "nosuch.zarr"), "no results at {here}/nosuch.zarr"),
        (("train", "nosuch.toml"), "no configuration {here}/nosuch.toml"),
        (("analyze", "nosuch.zarr"), "nosuch.zarr"),
        (("inspect", "nosuch.zarr"), "nosuch.zarr"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_failures_exit_1_with_one_line(words, told, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(*words)
    assert done.exit_code == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert told.format(here=tmp_path) in lines[0]
    assert list(tmp_path.iterdir()) == []


def failing(error: BaseException) -> click.Group:
    @click.group(cls=Group)
    @click.option("--debug", is_flag=True)
    def group(debug: bool) -> None:
        pass

    @group.command()
    def work() -> None:
        raise error

    return group


def test_line_breaks_of_a_message_are_folded() -> None:
    done = CliRunner().invoke(failing(StoreError("run.zarr:\n  is damaged\n")), ["work"])
    assert (done.exit_code, done.stderr) == (1, "error: run.zarr: is damaged\n")


def test_the_systems_refusal_is_one_line_too() -> None:
    done = CliRunner().invoke(failing(PermissionError(13, "Permission denied", "out.html")), ["work"])
    assert (done.exit_code, done.stderr) == (1, "error: [Errno 13] Permission denied: 'out.html'\n")


def test_debug_shows_the_traceback() -> None:
    error = FadiagError("told")
    assert CliRunner().invoke(failing(error), ["--debug", "work"]).exception is error


def test_a_bug_is_not_dressed_up() -> None:
    error = KeyError("a bug")
    assert CliRunner().invoke(failing(error), ["work"]).exception is error


def test_an_interrupt_exits_130() -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        done = CliRunner().invoke(failing(KeyboardInterrupt()), ["work"])
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # until the process has ended
    finally:
        signal.signal(signal.SIGINT, handler)
    assert (done.exit_code, done.stderr) == (130, "interrupted\n")


def test_figure_lists() -> None:
    done = invoke("figure", "--list")
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()] == [
        "rank_by_depth",
        "rank_gap",
        "rank_over_training",
        "conditions",
        "accuracy_over_training",
        "credit_cosine",
        "alignment_over_training",
        "overlap_over_training",
        "accuracy_against_rank",
        "layer_step_heatmap",
        "update_chain",
        "cosine_over_training",
        "rank_ratios",
        "spectrum",
        "two_by_two",
    ]


def test_figure_draws_tells_and_writes(results, tmp_path) -> None:
    done = invoke("figure", "accuracy_over_training", results, "-o", tmp_path / "a.png", "--style", "nature")
    assert done.exit_code == 0, done.output
    assert "fa − bp = −7.02 points [−7.27, −6.77]" in done.output
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (
        (tmp_path / "a.csv").read_text().startswith("panel,kind,variable,condition,layer,step,seed,x,value,")
    )
    assert "\\caption{Test accuracy, over training." in (tmp_path / "a.tex").read_text()


def test_figure_takes_its_name_where_none_is_given(results, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"wrote {tmp_path / 'rank_gap.pdf'}" in invoke("figure", "rank_gap", results).output
    assert {path.name for path in tmp_path.iterdir()} == {"rank_gap.pdf", "rank_gap.csv", "rank_gap.tex"}


def test_figure_refuses_a_suffix_before_it_reads(tmp_path) -> None:
    done = invoke("figure", "rank_gap", tmp_path / "none.zarr", "-o", tmp_path / "rank.gif")
    assert done.exit_code == 2
    assert "cannot be saved as 'gif' (there are pdf, svg, png)" in done.stderr


def test_report_writes_one_file(results, tmp_path) -> None:
    done = invoke("report", results, "-o", tmp_path / "report.html")
    assert done.exit_code == 0, done.output
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_python_m_fadiag_is_the_command() -> None:
    done = command("--version")
    assert done.stdout == f"fadiag, version {fadiag.__version__}\n"


def test_a_failure_in_a_real_process_is_one_line_on_stderr(tmp_path) -> None:
    done = command("report", tmp_path / "none.zarr")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no results at ")
    assert done.stderr.count("\n") == 1


def test_a_failure_under_debug_is_a_traceback(tmp_path) -> None:
    done = command("--debug", "report", tmp_path / "none.zarr")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_reader_that_goes_is_not_an_error() -> None:
    code = "import fadiag.cli; fadiag.cli.main(['--help'])"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(timeout=30)


def test_sigint_ends_a_real_process_with_130(tmp_path) -> None:
    code = (
        "import click, signal, time\n"
        # A background job of a shell starts with SIGINT ignored, which its children inherit.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from fadiag.cli import main\n"
        "@main.command()\n"
        "def wait():\n"
        "    click.echo('ready')\n"
        "    time.sleep(60)\n"
        "main(['wait'])"
    )
    with subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (130, "interrupted\n")


def test_help_shows_its_example_line_by_line() -> None:
    lines = CliRunner().invoke(main, ["--help"]).output.splitlines()
    assert "    fadiag inspect run.zarr" in lines
    assert not any("\\b" in line for line in lines)


def test_an_override_without_a_value_is_a_usage_error() -> None:
    done = invoke("train", "run.toml", "--set", "epochs")
    assert done.exit_code == 2
    assert "'epochs' is not KEY=VALUE, as in optimizer.learning_rate=0.1" in done.stderr
