"""How a metric names what it reads."""

import pytest

from fadiag.analysis import TABLE
from fadiag.analysis.metrics.signal_refs import SignalRef, parse
from fadiag.signals import role_of


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("error", SignalRef("error")),
        ("error_null_cosine", SignalRef("error_null_cosine")),
        ("state/update", SignalRef("update", "state")),
        ("static/feedback", SignalRef("feedback", "static")),
        ("first/activation", SignalRef("activation", records="first")),
        ("recent/update", SignalRef("update", records="recent")),
        ("above/error", SignalRef("error", above=1)),
        ("above12/state/weight", SignalRef("weight", "state", above=12)),
        ("below/static/feedback", SignalRef("feedback", "static", above=-1)),
        ("above*/weight", SignalRef("weight", above=1, every=True)),
        ("above/first/activation", SignalRef("activation", records="first", above=1)),
    ],
)
def test_references_read_back(text: str, ref: SignalRef) -> None:
    assert parse(text) == ref
    assert str(ref) == text


def test_a_name_that_looks_like_a_prefix_is_a_name() -> None:
    assert parse("first_error") == SignalRef("first_error")
    assert parse("aboveground/error") == SignalRef("aboveground/error")


def test_all_layers_above_are_written_out() -> None:
    assert [str(ref) for ref in parse("above*/weight").expanded(2)] == ["above/weight", "above2/weight"]
    assert [str(ref) for ref in parse("above*/weight").expanded(0)] == ["above/weight"]  # it is missed
    assert parse("error").expanded(2) == (SignalRef("error"),)


def test_every_row_of_the_table_reads_signals_that_the_recorder_knows() -> None:
    for metric in TABLE:
        for text in (*metric.signals, *metric.factor_signals, *metric.null_signals):
            ref = parse(text)
            spec = role_of(ref.signal).signal
            assert spec is not None, (metric.name, text)
            assert str(ref) == text
            wanted = {ref.stream} if ref.stream else set(metric.kinds)
            assert wanted <= set(spec.streams) or role_of(ref.signal).null, (metric.name, text)
