"""Captions are computed from the numbers, and are true of every condition."""

import numpy as np
import pytest

from fadiag import figures as ff
from fadiag import spectra
from fadiag.errors import InputError
from fadiag.figures.words.glossary import defined
from tests.figures.drawing import FUNCTIONS, draw
from tests.results.synthetic_results import shorter, synthetic

RANK = "error_participation_ratio_raw"
METRIC = {"metric": "participation_ratio"}


def noisy(results, stream, name, values):
    """Return the results with the last step of a variable at every layer set, one value a run."""
    dataset = results[stream].to_dataset().copy(deep=True)
    dataset[name][{"step": -1}] = np.reshape(values, (-1, *(1,) * (dataset[name].ndim - 2)))
    results[stream] = dataset
    return results


def two(values, name=RANK, stream="probe"):
    return noisy(synthetic(("bp", "fa")), stream, name, values)


@pytest.mark.parametrize("function", [ff.rank_by_depth, ff.rank_over_training, ff.rank_gap])
@pytest.mark.parametrize(
    ("fa", "finding"),
    [
        # Differences -10, -9, -8: mean -9, half width 4.3027 / sqrt(3).
        (
            [20, 22, 24],
            "fa − bp = −9.00 [−11.5, −6.52].",
        ),
        ([40, 40, 40], "fa − bp = 9.00 [6.52, 11.5]."),
        ([20, 40, 31], "fa − bp = −0.667 [−24.3, 22.9]."),
    ],
)
def test_a_difference_is_below_above_or_not_detectable(function, fa, finding) -> None:
    caption = ff.caption(draw(function, two([30, 31, 32, *fa]), **METRIC))
    assert f"At fc3, last step (400): {finding}" in caption
    over = "Means [95 % t intervals] over 3 paired seeds"
    assert (
        f"{over}; an interval that holds 0 leaves open whether there is a difference." in caption
        or f"{over}. " in caption
    )
    assert ("leaves open whether" in caption) == ("−0.667" in finding)


def test_equal_differences_and_one_seed_have_no_interval_and_say_why() -> None:
    equal = ff.caption(draw(ff.rank_by_depth, two([30, 31, 32, 33.62, 34.62, 35.62]), **METRIC))
    assert "fa − bp = 3.62 (equal in 3 seeds)." in equal
    assert "Equal values give no interval." in equal
    one = ff.caption(draw(ff.rank_by_depth, synthetic(("bp", "fa"), (0,)), **METRIC))
    assert "fa − bp = −15.0 (one seed)." in one
    assert "One seed has no interval." in one
    for caption in (equal, one):
        assert "[" not in caption


def test_a_dead_layer_is_counted_and_left_out_of_the_mean() -> None:
    """The mean of ranks 2 and 2.1 and of a dead seed is not 1.37."""
    ax = draw(ff.conditions, two([30, 31, 32, 0, 2, 2.1]), signal="error", **METRIC)
    caption = ff.caption(ax)
    assert "last step (400; dead, with rank 0, and left out: 1 of 3 runs of fa)" in caption
    assert "bp 31.0 [28.5, 33.5], fa 2.05 [1.41, 2.69] (n = 2)." in caption
    assert "over 3 seeds, or n where it is given." in caption
    (fa,) = ff.numbers(ax).query("kind == 'mean' and condition == 'fa'").itertuples()
    assert (fa.value, fa.n) == (pytest.approx(2.05), 2)
    gap = ff.caption(draw(ff.rank_gap, two([30, 31, 32, 0, 2, 2.1]), **METRIC))
    assert "(unclear, since runs lack a value)" in gap


def test_what_panels_share_is_said_once_and_what_is_drawn_is_defined() -> None:
    caption = ff.find("rank_by_depth").caption(synthetic(("bp", "fa")))
    assert caption.startswith(
        "Raw, by layer; numbers of fc3, last step (400). (a) Effective rank of the error: fa − bp"
    )
    for once in (
        "last step",
        "95 % t intervals",
        "Effective rank exp(−Σ q ln q)",
        "²)²/Σs⁴",
        "gate null: central",
    ):
        assert caption.count(once) == 1
    for letter in "abcd":
        assert f"({letter}) " in caption


def test_intervals_over_other_numbers_of_seeds_say_theirs() -> None:
    results = two([30, 31, 32, 40, np.nan, 42.2])
    caption = ff.caption(draw(ff.conditions, results, signal="error", **METRIC))
    assert "bp 31.0 [28.5, 33.5], fa 41.1 [27.1, 55.1] (n = 2)." in caption


def test_definitions_are_the_formulas_of_the_metrics() -> None:
    """Each is computed as it is written, in numpy, and compared with the metric."""
    s = np.array([3.0, 2.0, 1.0])
    p, q = s**2 / (s**2).sum(), s / s.sum()
    as_written = {
        "effective rank": ("exp(−Σ q ln q), q = s/Σs", np.exp(-(q * np.log(q)).sum())),
        "effective rank of the energy": ("exp(−Σ p ln p), p = s²/Σs²", np.exp(-(p * np.log(p)).sum())),
        "participation ratio": ("(Σs²)²/Σs⁴", (s**2).sum() ** 2 / (s**4).sum()),
        "stable rank": ("Σs²/max s²", (s**2).sum() / (s**2).max()),
    }
    functions = {
        "effective rank": spectra.effective_rank,
        "effective rank of the energy": spectra.effective_rank_energy,
        "participation ratio": spectra.participation_ratio,
        "stable rank": spectra.stable_rank,
    }
    for name, (words, value) in as_written.items():
        assert defined([name]).startswith(f"{name[:1].upper()}{name[1:]} {words}"), name
        assert float(functions[name](np.diag(s))) == pytest.approx(value, rel=1e-12)


def test_an_accuracy_is_in_per_cent_however_it_was_logged() -> None:
    shares = np.array([0.97, 0.96, 0.95, 0.90, 0.91, 0.92])
    captions = set()
    for factor in (1, 100):
        results = synthetic(("bp", "fa"))
        log = results["log"].to_dataset()
        results["log"] = log.assign(test_accuracy=log["test_accuracy"] * factor)
        results = noisy(results, "log", "test_accuracy", shares * factor)
        captions.add(ff.caption(draw(ff.accuracy_over_training, results)))
    (caption,) = captions
    assert "fa − bp = −5.00 points [−9.97, −0.0317]." in caption


def test_runs_beyond_the_gate_null_are_counted_of_every_condition_and_at_step_0() -> None:
    words = "Runs below/above gate null: "
    caption = ff.caption(draw(ff.rank_by_depth, synthetic(("bp", "fa")), **METRIC))
    assert f"{words}bp 0/0, fa 0/0 of 3 (step 0: bp 0/0, fa 0/0 of 3)." in caption
    results = two([99, 99, 99, 1, 99, 99], f"{RANK}_gate_null_high")
    results = noisy(results, "probe", f"{RANK}_gate_null_low", [0, 0, 98, 0, 98, 98])
    caption = ff.caption(draw(ff.rank_over_training, results, **METRIC))
    assert f"{words}bp 1/0, fa 2/1 of 3 (step 0: bp 0/0, fa 0/0 of 3)." in caption
    assert "gate null: central 95 %" in caption
    ax = draw(ff.rank_by_depth, synthetic(("bp", "fa"), nulls=False), **METRIC)
    assert "gate null" not in ff.caption(ax)
    assert "no gate null was recorded, so the level of chance is unknown" in ff.small_print(ax)


@pytest.mark.parametrize("rounding", [-1e-8, 1e-8])
def test_what_equals_its_null_up_to_rounding_is_not_beyond_it(rounding) -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    for end in ("low", "high"):
        probe[f"error_overlap_null_{end}"] = probe["error_overlap"] * (1 - rounding)
    results["probe"] = probe
    assert "fa 0/0 of 3" in ff.caption(draw(ff.overlap_over_training, results))


def test_a_null_drawn_less_often_is_counted_at_its_own_step() -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    for end in ("low", "high"):
        null = probe[f"{RANK}_gate_null_{end}"]
        probe[f"{RANK}_gate_null_{end}"] = null.where(probe["step"] <= 50)
    results["probe"] = probe
    ax = draw(ff.rank_over_training, results, **METRIC)
    assert "bp 0/0, fa 0/0 of 3 at step 50 (step 0: bp 0/0, fa 0/0 of 3)" in ff.caption(ax)
    assert set(ff.numbers(ax).query("kind == 'null'")["step"]) == {0, 50}


def test_conditions_are_compared_at_a_step_that_all_have() -> None:
    results = shorter(synthetic(("bp", "fa")), "fa", 3)
    at = "step 100, the last shared step (bp ends at step 400)"
    caption = ff.caption(draw(ff.accuracy_over_training, results))
    assert f"At {at}: " in caption
    until = results["log/test_accuracy"].sel(step=100).values * 100
    assert f"= {until[3:].mean() - until[:3].mean():.2f}".replace("-", "−") in caption
    ax = draw(ff.rank_by_depth, results)
    assert f"At fc3, {at}: " in ff.caption(ax)
    assert set(ff.numbers(ax)["step"].dropna()) == {100}


def test_conditions_without_a_step_in_common_are_not_compared() -> None:
    results = synthetic(("bp", "fa"))
    log = results["log"].to_dataset()
    results["log"] = log.where((log["condition"] == "fa") == (log["step"] > 100))
    caption = ff.caption(draw(ff.accuracy_over_training, results))
    assert "At no shared step (bp ends at step 100, fa ends at step 400): no seed has a val" in caption


def test_ranks_of_different_numbers_of_samples_are_not_compared() -> None:
    results = synthetic(("bp", "fa", "fa+bn"))
    probe = results["probe"].to_dataset()
    for array in probe.data_vars.values():
        array.attrs |= {"samples": "64, 16", "samples_coordinate": "kept_samples"}
    kept = [16.0 if condition == "fa+bn" else 64.0 for condition in probe["condition"].values]
    results["probe"] = probe.assign_coords(kept_samples=("run", kept))
    caption = ff.caption(draw(ff.rank_by_depth, results))
    assert "fa − bp" in caption
    apart = "fa+bn and bp not compared: runs measured on different numbers of samples (fa+bn 16, bp 64)"
    assert apart in caption


def test_the_declared_metric_and_layer_are_named() -> None:
    results = synthetic(("bp", "fa"))
    declared = {"primary_metric": ("run", [RANK] * 6), "primary_layer": ("run", ["fc2"] * 6)}
    results["probe"] = results["probe"].to_dataset().assign_coords(declared)
    caption = ff.caption(draw(ff.rank_by_depth, results, **METRIC))
    assert "At fc2, last step (400): declared primary metric, fa − bp" in caption
    assert "declared" not in ff.caption(draw(ff.rank_by_depth, results))


def test_a_figure_reads_one_stream_and_says_which() -> None:
    results = synthetic()
    probe = results["probe"].to_dataset()
    copy = probe.drop_vars([name for name in probe.data_vars if "_null_" in name]) * 0 + 1000.0
    results["held_out"] = copy.assign_attrs(kind="probe")
    ax = draw(ff.overlap_over_training, results)
    assert ff.caption(ax).endswith("Measured on the stream 'probe', not on held_out.")
    other = draw(ff.overlap_over_training, results, stream="held_out")
    assert set(ff.numbers(other).query("kind == 'mean'")["value"]) == {1000.0}
    assert "null" not in set(ff.numbers(other)["kind"])  # that of the probe does not belong to it


def test_a_scalar_logged_under_the_name_of_a_metric_is_not_taken_for_it() -> None:
    results = synthetic()
    log = results["log"].to_dataset()
    results["log"] = log.assign(error_cosine=log["test_accuracy"])
    want = ff.numbers(draw(ff.credit_cosine))
    assert ff.numbers(draw(ff.credit_cosine, results)).equals(want)


def test_a_rank_at_its_ceiling_is_said() -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    mark = probe[RANK] * 0
    mark.loc[{"run": ["fa-seed0", "fa-seed2"], "layer": "fc3"}] = 1.0
    results["probe"] = probe.assign({f"{RANK}_at_ceiling": mark})
    assert "; at its ceiling, within 1 % of min(N, n): runs 2 of fa." in ff.caption(
        draw(ff.rank_by_depth, results, **METRIC)
    )


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_small_print_has_n_seeds_interval_and_definition(function) -> None:
    small = ff.small_print(draw(function))
    assert "3 seeds per condition, every seed is drawn; mean with 95 % t interval" in small
    if function not in (ff.accuracy_over_training, ff.conditions, ff.alignment_over_training):
        assert "N = 256 samples; probe 'test'; network in eval mode. Unfolding: samples" in small


def test_overlaps_name_their_k_and_what_it_was_guessed_from() -> None:
    results = synthetic(("bp", "fa"))
    probe = results["probe"].to_dataset()
    guess = "one less than the outputs of layer 'out'"
    probe["error_overlap"].attrs |= {"k": 9, "k_source": guess, "centered": 0}
    results["probe"] = probe
    small = ff.small_print(draw(ff.overlap_over_training, results))
    assert f"(raw); k = 9 directions, {guess}, or all of a layer with fewer." in small


def test_seeds_that_are_texts_or_unknown_pair_only_with_themselves() -> None:
    def seeded(seeds):
        results = synthetic(("bp", "fa"))
        log = results["log"].to_dataset()
        results["log"] = log.assign_coords(seed=("run", np.array(seeds, object)))
        return noisy(results, "log", "test_accuracy", [0.1, 0.5, 0.9, 0.92, 0.11, 0.52])

    caption = ff.caption(draw(ff.accuracy_over_training, seeded(["a", "b", "c", "c", "a", "b"])))
    assert "fa − bp = 1.67 points [0.232, 3.10]" in caption
    alone = ff.caption(draw(ff.accuracy_over_training, seeded(["a", "b", "c", "", "", ""])))
    assert "no seed has a value for both fa and bp, so no runs are paired" in alone


def test_degrees_are_the_arc_cosines_and_their_null_is_turned_around() -> None:
    cosines, angles = (
        ff.numbers(draw(ff.credit_cosine, degrees=degrees)).query("kind == 'seed'")["value"].to_numpy()
        for degrees in (False, True)
    )
    np.testing.assert_allclose(angles, np.degrees(np.arccos(np.clip(cosines, -1, 1))), atol=1e-6)
    null = ff.numbers(draw(ff.credit_cosine, degrees=True)).query("kind == 'null'")
    np.testing.assert_allclose(null["low"], np.degrees(np.arccos(0.2)))
    np.testing.assert_allclose(null["high"], np.degrees(np.arccos(-0.2)))


def test_intervals_in_captions_are_those_of_the_table() -> None:
    """Accuracies of 100 and 98.5 % have an interval that would leave what is possible."""
    results = synthetic(("fa",), (0, 1))
    log = results["log"].to_dataset()
    log["test_accuracy"].values[:, -1] = [1.0, 0.985]
    log["test_accuracy"].values[:, :-1] = 0.5
    results["log"] = log
    ax = draw(ff.accuracy_over_training, results)
    high = ff.numbers(ax).query("kind == 'mean'")["high"].iloc[-1]
    assert high == 100
    assert ", 100]" in ff.caption(ax)


@pytest.mark.parametrize(
    ("function", "options"),
    [(ff.rank_by_depth, {"step": 0}), (ff.rank_over_training, {"steps": (0, 0)})],
)
def test_a_step_that_was_asked_for_needs_no_reason(function, options) -> None:
    said = ff.caption(draw(function, synthetic(("bp", "fa")), **options))
    assert "step 0:" in said
    assert "no later step" not in said


def test_what_is_not_drawn_has_no_small_print() -> None:
    results = synthetic(("fa", "fa+bn"))
    ax = draw(ff.rank_gap, results)
    assert "there is no baseline" in ff.caption(ax)
    assert ff.small_print(ax) == ""


def test_labels_are_texts_of_their_own() -> None:
    with pytest.raises(InputError, match="the label of 'bp' is empty; give each"):
        ff.theme(labels={"bp": " "})
    with pytest.raises(InputError, match="the label of 'bp' is 'x', as that of another condition"):
        ff.theme(labels={"bp": "x", "fa": "x"})


def test_no_control_character_of_a_store_is_in_the_table(tmp_path) -> None:
    ax = draw(ff.rank_by_depth, synthetic(("bp", "f\x1b[31ma")))
    ff.save(ax, tmp_path / "fig", formats=("png",))
    assert b"\x1b" not in (tmp_path / "fig.csv").read_bytes()
    assert "f\\x1b[31ma" in (tmp_path / "fig.csv").read_text(encoding="utf-8")
