"""Ratios of ranks: each pair against its own baseline, at its own layer, on a logarithmic axis."""

import numpy as np
import pytest
import xarray as xr

from fadiag import figures as ff
from fadiag.errors import InputError
from fadiag.spectra import t_interval
from tests.figures.drawing import axes
from tests.results.synthetic_results import synthetic

NAMES = ("bp", "fa", "bp, wide", "fa, wide")


def declared(conditions=NAMES, **baselines):
    """Return results whose conditions have the baselines that a study declared."""
    results = synthetic(conditions)

    def with_baselines(stream):
        if "run" not in stream.dims:
            return stream
        of = [baselines.get(name, "") for name in stream["condition"].values]
        return stream.assign_coords(baseline=("run", of))

    return results.map_over_datasets(with_baselines)


def ratios(ax):
    table = ff.numbers(ax)
    return table[table["kind"].str.startswith("ratio")].to_dict("records")


def test_each_pair_is_compared_with_its_own_baseline() -> None:
    results = declared(fa="bp", **{"fa, wide": "bp, wide"})
    ax = ff.rank_ratios(results, ax=axes(), others=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["fa", "fa, wide / bp, wide"]
    assert [row["kind"] for row in ratios(ax)] == ["ratio to bp", "ratio to bp, wide"]


def test_the_mean_is_geometric_with_the_interval_of_the_logarithm() -> None:
    results = declared(("bp", "fa"), fa="bp")
    (row,) = ratios(ff.rank_ratios(results, ax=axes(), others=False))
    final = results["probe/error_effective_rank_raw"].sel(layer="fc3").isel(step=-1).values.reshape(2, 3)
    logs = np.log(final[1] / final[0])
    oracle = t_interval(logs)
    np.testing.assert_allclose(
        [row["value"], row["low"], row["high"]], np.exp([oracle.mean, oracle.low, oracle.high]), rtol=1e-12
    )
    assert (row["n"], row["interval"], row["layer"]) == (3, "95 % t of the logarithm", "fc3")


def test_the_first_pair_is_also_drawn_in_other_layers_and_by_other_ranks() -> None:
    ax = ff.rank_ratios(declared(("bp", "fa"), fa="bp"), ax=axes())
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == ["fa", "fa, at fc1", "fa, at fc2", "fa, participation ratio", "fa, of the modulator"]


def test_networks_of_other_depths_are_compared_at_their_own_layer() -> None:
    results = declared(fa="bp", **{"fa, wide": "bp, wide"})
    own = {"bp": "fc3", "fa": "fc3"}

    def with_layers(stream):
        if "run" not in stream.dims:
            return stream
        of = [own.get(name, "fc2") for name in stream["condition"].values]
        return stream.assign_coords(primary_layer=("run", of))

    found = ratios(ff.rank_ratios(results.map_over_datasets(with_layers), ax=axes(), others=False))
    assert [row["layer"] for row in found] == ["fc3", "fc2"]


def test_without_a_declaration_all_are_compared_with_bp() -> None:
    ax = ff.rank_ratios(synthetic(("bp", "fa", "frozen")), ax=axes(), others=False)
    assert [row["condition"] for row in ratios(ax)] == ["fa", "frozen"]


def test_a_dead_run_has_no_ratio_and_the_small_print_says_so() -> None:
    results = declared(("bp", "fa"), fa="bp")
    values = results["probe/error_effective_rank_raw"]
    results["probe/error_effective_rank_raw"] = xr.where(
        values["condition"] == "fa", 0.0, values, keep_attrs=True
    )
    ax = ff.rank_ratios(results, ax=axes(), others=False)
    assert ax.texts[0].get_text().startswith("Not drawn: no pair of runs has the effective rank")


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(InputError, match=r"pairs name 'fo', which is no condition of the results.*fa"):
        ff.rank_ratios(synthetic(("bp", "fa")), pairs=[("fo", "bp")], ax=axes())
