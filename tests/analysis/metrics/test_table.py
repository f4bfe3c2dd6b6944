"""The table of metrics follows the table of signals."""

import pytest

from fadiag.analysis import TABLE
from fadiag.signals import SIGNALS

ROW_COUNT_SIGNAL = {metric.name: metric for metric in TABLE}


@pytest.mark.parametrize("signal", [s for s in SIGNALS.values() if s.shape in ("output", "input")])
def test_every_signal_of_samples_has_its_ranks(signal) -> None:
    for rank in ("participation_ratio", "effective_rank", "effective_rank_energy", "stable_rank"):
        for how in ("raw", "centered"):
            assert ROW_COUNT_SIGNAL[f"{signal.name}_{rank}_{how}"].kinds == signal.streams
    assert ROW_COUNT_SIGNAL[f"{signal.name}_effective_samples"].factor_signals == (
        f"{signal.name}_row_moments",
    )


@pytest.mark.parametrize("signal", [s for s in SIGNALS.values() if s.twin])
def test_every_signal_with_a_twin_is_compared_with_it(signal) -> None:
    for name in (f"{signal.name}_cosine", f"{signal.name}_norm_ratio"):
        assert ROW_COUNT_SIGNAL[name].signals == (signal.name, signal.twin)
        assert ROW_COUNT_SIGNAL[name].kinds == ("probe",)


def test_what_never_changes_has_no_rank() -> None:
    assert "gradient_effective_rank_raw" in ROW_COUNT_SIGNAL
    for name in ("feedback", "weight_init", "bias"):
        assert f"{name}_effective_rank_raw" not in ROW_COUNT_SIGNAL
