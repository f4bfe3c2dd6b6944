"""Progress bars: the time left, and names that are no markup."""

import re
from contextlib import contextmanager

from click.testing import CliRunner

from fadiag.cli import main
from fadiag.cli.progress import Countdown, bar, duration


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_time_left_is_that_of_the_speed_since_the_first_report() -> None:
    clock = Clock()
    left = Countdown(clock)
    assert left.seconds() is None
    left.move(500, 1000)  # half was there already
    assert left.seconds() is None
    clock.now = 10.0
    left.move(600, 1000)
    assert left.seconds() == 40.0
    clock.now = 30.0
    assert left.seconds() == 20.0
    clock.now = 90.0
    assert left.seconds() == 0.0
    left.move(700, 1000)
    assert left.seconds() == 135.0


def test_durations() -> None:
    assert [duration(s) for s in (-1, 0.4, 59.6, 61, 3599, 86400)] == [
        "0 s",
        "0 s",
        "1 min 0 s",
        "1 min 1 s",
        "59 min 59 s",
        "1 d 0 h",
    ]


def test_a_bar_shows_the_time_left_and_the_note_as_it_is(monkeypatch, capsys) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    clock = Clock()
    monkeypatch.setattr("fadiag.cli.progress.time.monotonic", clock)
    monkeypatch.setattr(Countdown.__init__, "__defaults__", (clock,))
    with bar("training [red]") as move:
        move(0, 100)
        clock.now = 10.0
        move(50, 100, "[bold]fa\x1b[2J[/bold]")
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().err)
    assert "training [red]" in text
    assert "[bold]fa\\x1b[2J[/bold]" in text
    assert "50/100" in text
    assert "10 s left" in text


def test_analyze_says_that_it_saves(monkeypatch, make_run, record, tmp_path) -> None:
    store, moves = record(make_run(0), tmp_path / "run.zarr"), []

    @contextmanager
    def heard(what):
        yield lambda done, total, note="": moves.append((done == total, note))

    monkeypatch.setattr("fadiag.cli.progress.bar", heard)
    words = ["analyze", str(store), "--metric", "error_cosine", "-o", str(tmp_path / "r.zarr")]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert len(moves) > 1
    assert set(moves) == {(False, ""), (True, "saving")}


def test_no_bar_without_a_terminal(capsys) -> None:
    with bar("training") as move:
        move(1, 2)
    assert capsys.readouterr().err == ""
