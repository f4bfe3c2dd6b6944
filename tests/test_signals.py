"""The table of signals: complete, consistent, and the one place that reads names."""

import pytest

from fadiag.signals import (
    NULLS,
    PARTS,
    SIGNALS,
    is_free_label,
    part_of,
    role_of,
    signal_of,
    signals_of,
    under_feedback,
)


def test_a_twin_is_a_row_of_the_same_shape() -> None:
    for signal in SIGNALS.values():
        if signal.twin:
            twin = SIGNALS[signal.twin]
            assert (twin.shape, twin.backward, twin.needs_gate) == (
                signal.shape,
                signal.backward,
                signal.needs_gate,
            )
            assert twin.streams == ("probe",)


def test_every_row_says_what_it_is() -> None:
    for signal in SIGNALS.values():
        assert signal.definition
        assert signal.taken_at
        assert signal.streams
        assert any(signal in signals_of(stream) for stream in signal.streams)


@pytest.mark.parametrize("signal", SIGNALS)
def test_names_read_back(signal: str) -> None:
    assert role_of(signal).signal is SIGNALS[signal]
    assert role_of(signal).part == ""
    for part in PARTS:
        role = role_of(part_of(signal, part))
        # jacobian_cosine is a signal of its own, not the cosine of one.
        assert (role.signal, role.part) == (SIGNALS[signal], part)


def test_nulls_read_back() -> None:
    for null in NULLS.values():
        for array in null.arrays:
            assert role_of(array).null == null.name
            assert array == f"{null.name}_{role_of(array).statistic}"


def test_labels_of_feedbacks_read_back() -> None:
    role = role_of(part_of(under_feedback("error", "mine"), "row_normalized"))
    assert (role.signal, role.part, role.feedback) == (SIGNALS["error"], "row_normalized", "mine")
    assert role_of("weight_mine").signal is None  # a weight has no other feedback


@pytest.mark.parametrize("label", ["bp", "post", "null", "norm", "cosine", "mine_norm"])
def test_labels_that_would_be_read_as_something_else_are_not_free(label: str) -> None:
    assert not is_free_label(label)
    assert is_free_label(f"{label}_of_mine")


def test_an_array_that_is_not_in_the_table_has_no_signal() -> None:
    with pytest.raises(KeyError, match="loss"):
        signal_of("loss")
