"""Two runs with known curves, compared at the training loss that both reach."""

import numpy as np
import pytest
import xarray as xr

from fadiag.errors import InputError, MissingSignalError
from fadiag.results.matched import at_matched_loss
from fadiag.spectra import t_interval

#: Losses fall by a constant each step; records are every `EVERY` steps.
STEPS, EVERY = 40, 4


def results(losses: dict[tuple[str, int], np.ndarray], rank, *, samples=None) -> xr.DataTree:
    """Return results whose metric at a record is ``rank(condition, seed, smoothed loss, step)``."""
    keys = list(losses)
    at = np.arange(0, STEPS + 1, EVERY)
    log = np.array([np.append(losses[key], np.nan) for key in keys])
    metric = np.full((len(keys), 1, STEPS + 1), np.nan)
    for i, (condition, seed) in enumerate(keys):
        for record in at:
            since = losses[condition, seed][max(0, record - EVERY) : max(1, record)]
            metric[i, 0, record] = rank(condition, seed, since.mean(), record)
    coords = {
        "run": [f"{condition}-seed{seed}" for condition, seed in keys],
        "condition": ("run", [condition for condition, _ in keys]),
        "seed": ("run", [seed for _, seed in keys]),
        "step": np.arange(STEPS + 1),
    }
    probe = xr.Dataset({"rank": (("run", "layer", "step"), metric)}, {**coords, "layer": ["fc"]})
    if samples is not None:
        probe = probe.assign_coords(kept_samples=("run", samples))
        probe["rank"].attrs["samples_coordinate"] = "kept_samples"
    streams = {
        "/log": xr.Dataset({"loss": (("run", "step"), log)}, coords).assign_attrs(kind="log"),
        "/probe": probe.assign_attrs(kind="probe"),
    }
    return xr.DataTree.from_dict(streams)


def falling(start: float, rate: float) -> np.ndarray:
    return start - rate * np.arange(STEPS)


def pair(slow=0.02, fast=0.05):
    return {("fa", 0): falling(3.0, slow), ("bp", 0): falling(3.0, fast)}


def test_the_level_is_the_last_loss_of_the_slower_run_and_steps_are_where_both_reach_it() -> None:
    found = at_matched_loss(
        results(pair(), lambda c, s, loss, step: 10 * loss + (2 if c == "fa" else 0)),
        "rank",
        "fa",
        "bp",
        layer="fc",
    )
    (one,) = found.pairs
    # The mean of four losses a step apart is the loss 2.5 steps before the record.
    level = 3.0 - 0.02 * (STEPS - 2.5)
    assert one.level == pytest.approx(level, rel=1e-12)
    assert one.step == STEPS
    assert one.baseline_step == pytest.approx((3.0 - level) / 0.05 + 2.5, rel=1e-12)
    # A metric that is linear in the loss is exact between records.
    assert one.baseline_value == pytest.approx(10 * level, rel=1e-12)
    assert one.value == pytest.approx(10 * level + 2, rel=1e-12)
    assert one.difference == pytest.approx(2, rel=1e-11)
    assert found.interval is None


def test_a_difference_that_is_only_one_of_speed_vanishes() -> None:
    """At the last step fa is 11.25 above bp; at equal loss they agree."""
    made = results(pair(), lambda c, s, loss, step: 10 * loss)
    last = made["probe/rank"].isel(layer=0, step=-1).values
    assert last[0] - last[1] == pytest.approx(10 * 0.03 * (STEPS - 2.5))
    found = at_matched_loss(made, "rank", "fa", "bp", layer="fc")
    assert found.pairs[0].difference == pytest.approx(0, abs=1e-12)


def test_the_interval_is_over_the_differences_of_the_seeds() -> None:
    shifts = {0: 1.0, 1: 2.0, 2: 4.0}
    losses = {(c, s): falling(3.0 + 0.1 * s, r) for s in shifts for c, r in (("fa", 0.02), ("bp", 0.05))}
    made = results(losses, lambda c, s, loss, step: loss + (shifts[s] if c == "fa" else 0))
    found = at_matched_loss(made, "rank", "fa", "bp", layer="fc")
    assert [one.seed for one in found.pairs] == [0, 1, 2]
    assert found.interval is not None
    expected = t_interval(list(shifts.values()))
    assert np.allclose(found.interval[:3], expected[:3], rtol=1e-10)
    assert found.interval.n == 3


def test_a_curve_that_rises_again_is_taken_at_its_first_crossing() -> None:
    wave = np.concatenate([falling(3.0, 0.1)[:12], np.full(8, 2.5), falling(2.5, 0.1)[:20]])
    losses = {("fa", 0): wave, ("bp", 0): falling(3.0, 0.025)}
    found = at_matched_loss(results(losses, lambda c, s, loss, step: step), "rank", "fa", "bp", layer="fc")
    (one,) = found.pairs
    assert one.level == pytest.approx(3.0 - 0.025 * (STEPS - 2.5))  # 2.0625
    upper, lower = wave[4:8].mean(), wave[8:12].mean()
    assert (upper, lower) == pytest.approx((2.45, 2.05))  # and the losses after them are 2.5
    expected = 8 + 4 * (upper - one.level) / (upper - lower)
    assert one.step == pytest.approx(expected)
    assert one.value == pytest.approx(expected)  # the metric is the step


def test_runs_that_do_not_learn_meet_where_they_begin() -> None:
    losses = {("fa", 0): falling(3.0, -0.02), ("bp", 0): falling(3.0, 0.05)}
    made = results(losses, lambda c, s, loss, step: 7.0)
    (one,) = at_matched_loss(made, "rank", "fa", "bp", layer="fc").pairs
    assert (one.level, one.step, one.baseline_step, one.difference) == (3.0, 0.0, 0.0, 0.0)


def test_a_pair_without_a_common_loss_says_so() -> None:
    losses = {
        ("fa", 0): falling(3.0, 0.02),
        ("bp", 0): falling(2.0, 0.02),
        ("fa", 1): falling(3.0, 0.02),
    }
    found = at_matched_loss(results(losses, lambda *_: 1.0), "rank", "fa", "bp", layer="fc")
    assert not found.pairs
    assert found.left_out == {
        0: "no common loss: bp begins at 2, and fa does not go below 2.25",
        1: "bp has no run of this seed",
    }


def test_a_run_without_a_value_or_a_loss_is_named() -> None:
    made = results(pair() | {(c, 1): falling(3.0, 0.02) for c in ("fa", "bp")}, lambda *_: 1.0)
    made["probe/rank"][1] = np.nan
    made["log/loss"][2] = np.nan
    found = at_matched_loss(made, "rank", "fa", "bp", layer="fc")
    assert found.left_out == {
        0: "bp-seed0 has no value of rank",
        1: "fa-seed1 logged no loss before a record of rank",
    }


def test_what_is_unknown_is_refused_by_name() -> None:
    made = results(pair(), lambda *_: 1.0)
    with pytest.raises(InputError, match="layer is None; give one of fc"):
        at_matched_loss(made, "rank", "fa", "bp")
    with pytest.raises(InputError, match="layer 'conv' has no rank; give one of fc"):
        at_matched_loss(made, "rank", "fa", "bp", layer="conv")
    with pytest.raises(InputError, match="condition='dfa' matches no run"):
        at_matched_loss(made, "rank", "dfa", "bp", layer="fc")
    with pytest.raises(MissingSignalError, match="the results hold no nll"):
        at_matched_loss(made, "rank", "fa", "bp", layer="fc", loss="nll")
    made = results(pair(), lambda *_: 1.0, samples=[64, 128])
    with pytest.raises(InputError, match="different numbers of samples: 64 in fa and 128 in bp"):
        at_matched_loss(made, "rank", "fa", "bp", layer="fc")
