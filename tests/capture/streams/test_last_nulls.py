"""Test the nulls of the last record, which is read twice."""

import numpy as np
import pytest

from fadiag.capture.signals.layer_signals import LayerSignals, SignalArray
from fadiag.capture.streams.last_nulls import with_nulls
from fadiag.errors import CaptureWarning


def reading(scale: float, *, nulls: bool) -> list[LayerSignals]:
    error = scale * np.arange(6.0).reshape(3, 2)
    signals = {"error": SignalArray(error, ("sample", "out"))}
    if nulls:
        signals["error_null_cosine"] = SignalArray(np.array([scale]), ("draw",))
    return [LayerSignals("fc", {}, signals)]


def test_the_nulls_of_a_second_reading_are_added_to_the_first() -> None:
    (layer,) = with_nulls(reading(1.0, nulls=False), reading(1.0, nulls=True), "probe")
    assert layer.signals["error_null_cosine"].array == [1.0]


def test_the_nulls_of_other_weights_are_left_out_with_a_warning_at_the_users_line() -> None:
    with pytest.warns(
        CaptureWarning, match="record of probe 'probe' are left out: the model or the batch changed"
    ) as told:
        (layer,) = with_nulls(reading(1.0, nulls=False), reading(1.1, nulls=True), "probe")
    assert set(layer.signals) == {"error"}
    assert [w.filename for w in told] == [__file__]
