"""What reaches the terminal: safe characters, in any encoding and width, also if the reader goes."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from fadiag.cli import main
from fadiag.cli.terminal import say, table
from fadiag.results import save_results
from fadiag.results.left_out import LeftOut, to_attribute
from fadiag.store import ArraySpec, RunWriter
from tests.results.synthetic_results import SMALL, synthetic

EVIL = "fc\x1b[2J\x00\u202e\x07"
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def invoke(*words, **options):
    return CliRunner(**options).invoke(main, [str(word) for word in words])


def controls(text):
    return sorted({c for c in text if not c.isprintable() and c != "\n"})


@pytest.fixture
def on_terminal(monkeypatch):
    """Return a function that runs a command as on a terminal of some width; it returns the plain lines."""

    def run(columns, *words):
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", str(columns))
        done = invoke(*words)
        assert done.exit_code == 0, done.output
        return STYLE.sub("", done.output).splitlines()

    return run


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return save_results(synthetic(seeds=(0, 1)), tmp_path_factory.mktemp("terminal") / "results.zarr")


@pytest.fixture(scope="module")
def evil_results(tmp_path_factory):
    tree = synthetic(**SMALL, seeds=(0, 1))
    names = {"bp": EVIL + "bp", "fa": EVIL + "fa"}
    for stream in ("log", "probe", "state"):
        dataset = tree[stream].to_dataset()
        for name in ("run", "condition"):
            values = [
                str(v).replace(k, n) for v in dataset[name].values for k, n in names.items() if k in str(v)
            ]
            dataset = dataset.assign_coords({name: ("run", np.array(values, object))})
        if "layer" in dataset.coords:
            layers = [f"{EVIL}{v}" for v in dataset["layer"].values]
            dataset = dataset.assign_coords(layer=np.array(layers, object))
        tree[stream] = dataset
    lost = LeftOut(f"{EVIL}fa-seed1", f"holds {EVIL}", "probe", EVIL, signal="error", step=50)
    tree.attrs |= to_attribute([lost])
    return save_results(tree, tmp_path_factory.mktemp("evil") / "results.zarr")


@pytest.fixture(scope="module")
def evil_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("evil") / "run.zarr"
    meta = {"condition": EVIL, "seed": 0, "primary_layer": EVIL}
    with RunWriter(path, manifest={"meta": meta, EVIL: EVIL}) as writer:
        writer.declare_stream("probe", attrs={"kind": "probe"})
        attrs = {"name": EVIL, "type": EVIL, "order": 0, "feedback_from": EVIL}
        writer.declare(
            "probe", EVIL, "error", ArraySpec(("sample", "out"), (8, 4), "float32"), layer_attrs=attrs
        )
        for step in (0, 10, 30):
            writer.append("probe", step, {(EVIL, "error"): np.zeros((8, 4), np.float32)})
    return path


@pytest.mark.parametrize(
    "words",
    [
        ("inspect",),
        ("inspect", "--layer", "*", "--arrays"),
        ("inspect", "--layer", "none"),
        ("inspect", "--json"),
        ("watch", "--once"),
        ("verify",),
    ],
    ids=" ".join,
)
def test_no_control_character_of_a_store_is_printed(words, evil_run) -> None:
    done = invoke(words[0], evil_run, *words[1:])
    assert "fc\\" in done.output or words == ("verify",)
    assert controls(done.output) == []


@pytest.mark.parametrize(
    "words",
    [
        ("table",),
        ("table", "--latex"),
        ("table", "--csv"),
        ("table", "--conditions", "none"),
        ("table", "--layer", "none"),
        ("table", "--layer", "*"),
        ("compare", "--conditions", EVIL + "bp", EVIL + "fa", "--all"),
        ("compare", "--conditions", EVIL + "bp", EVIL + "fa", "-o", "-"),
        ("compare", "--conditions", "none", "none"),
        ("compare", "--conditions", EVIL + "bp", EVIL + "fa", "--layer", "none"),
        ("figure accuracy_over_training", "-o", "{at}/a.png"),
        ("figure accuracy_over_training", "--conditions", "none"),
        ("figure accuracy_over_training", "--layers", "none"),
        ("report", "-o", "{at}/report.html"),
        ("report", "--strict", "-o", "{at}/report.html"),
    ],
    ids=lambda words: " ".join(words).encode("unicode_escape").decode(),
)
def test_no_control_character_of_results_is_printed(words, evil_results, tmp_path) -> None:
    done = invoke(*words[0].split(), evil_results, *(word.format(at=tmp_path) for word in words[1:]))
    assert "fc" in done.output
    assert controls(done.output) == []
    assert done.exception is None or isinstance(done.exception, SystemExit)


def test_a_traceback_is_without_control_characters(evil_results) -> None:
    words = [sys.executable, "-m", "fadiag", "--debug", "table", str(evil_results), "--layer", "none"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert "\nTraceback" in done.stderr
    assert "fc\\x1b[2J" in done.stderr
    assert controls(done.stderr) == []


@pytest.mark.parametrize("charset", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_can_be_written(charset, results, evil_run) -> None:
    found = {}
    for words in (
        ("inspect", evil_run, "--arrays"),
        ("metrics",),
        ("figure", "accuracy_over_training", results, "-o", evil_run.parent / "a.png"),
        ("compare", results, "--conditions", "bp", "fa"),
        ("table", results),
    ):
        done = CliRunner(charset=charset).invoke(main, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        found[words[0]] = done.stdout_bytes.decode(charset)
    shape = "step 3 x sample 8 x out 4" if charset == "ascii" else "step 3 × sample 8 × out 4"
    assert shape in found["inspect"]
    minus = "−" if charset == "utf-8" else "-"
    assert f"fa {minus} bp = {minus}7.02 points" in found["figure"]


def test_a_character_without_a_lookalike_is_an_escape(capsysbinary) -> None:
    code = "from fadiag.cli.terminal import *; write_in_any_encoding(); say('ß ≥ 2 \\udce9')"
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, check=True)
    assert done.stdout == b"\\xdf >= 2 \\udce9\n"


@pytest.mark.parametrize(
    "words", [("metrics",), ("figure", "--list"), ("table", "{results}", "--csv")], ids=" ".join
)
def test_a_reader_that_goes_ends_a_command_quietly(words, results) -> None:
    command = [sys.executable, "-m", "fadiag", *(word.format(results=results) for word in words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=120) in (0, 1)


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (("analyze", "run.zarr"), "-o"),
        (("train", "run.toml"), "-o"),
        (("report", "results.zarr"), "-o"),
        (("figure", "rank_gap", "results.zarr"), "-o"),
        (("figure", "--all", "results.zarr"), "-o"),
        (("study", "demo"), "-o"),
        (("study", "demo"), "--pool"),
        (("demo",), "-o"),
        (("compact", "run.zarr"), ""),
        (("export", "run.zarr"), ""),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_stdout_is_refused_where_a_path_is_needed(words, out, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = invoke(*words, *([out] if out else []), "-")
    assert done.exit_code == 2
    assert "'-' is stdout, and this is written to a path; name one" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_tables_fit_the_terminal(columns, on_terminal, results, tmp_path) -> None:
    for words, first in (
        (("compare", results, "--conditions", "bp", "fa", "--all"), "variable"),
        (("table", results), "condition"),
        (("study", "demo", "--dry-run", "-o", tmp_path), "run "),
    ):
        lines = on_terminal(columns, *words)
        begin = next(i for i, line in enumerate(lines) if line.startswith(first))
        assert max(map(len, lines[begin : begin + 5])) <= columns
    definitions = [line for line in on_terminal(columns, "metrics", "cosine") if line.startswith(" ")]
    assert max(map(len, definitions)) <= columns


def test_compare_is_readable_at_80_columns(on_terminal, results) -> None:
    lines = on_terminal(80, "compare", results, "--conditions", "bp", "fa", "--metric", "error_*")
    head = next(line for line in lines if line.startswith("variable"))
    assert head.split() == ["variable", "layer", "bp", "fa", "difference", "[95", "%", "interval]"]
    row = next(line for line in lines if line.startswith("error_participation_"))
    assert re.search(r"(fc\d|out) +\d+(\.\d+)? +\d+(\.\d+)?  -\d+(\.\d+)? \[-\d", row)
    assert not any("activ" in line for line in lines)


def test_a_long_name_is_broken_behind_an_underscore(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    table(("name", "value"), [("error_participation_ratio_row_normalized", "1.00 [0.90, 1.10]")])
    lines = [line.rstrip() for line in STYLE.sub("", capsys.readouterr().out).splitlines()]
    assert lines[2:] == ["error_participation_  1.00 [0.90, 1.10]", "ratio_row_normalized"]


def test_say_keeps_its_own_line_breaks(capsys) -> None:
    say("a\nb\r\x1b[31mc")
    assert capsys.readouterr().out == "a\nb\\r\\x1b[31mc\n"


def test_help_is_ascii() -> None:
    for name in main.commands:
        assert invoke(name, "--help").output.isascii(), name
