"""The advice of fadiag.figures."""

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner
from matplotlib.figure import Figure

from fadiag import figures as ff
from fadiag.analysis import analyze, overlap_matrix
from fadiag.cli import main
from fadiag.results import save_results, select
from tests.advice.advice import Table
from tests.conftest import build_run
from tests.results.synthetic_results import SMALL, synthetic

ADVICE = Table()


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


def axes():
    return Figure().add_subplot()


ADVICE.row(
    "conditions is empty; name at least one, or leave it out for all",
    lambda at: ff.rank_by_depth(synthetic(**SMALL), conditions=[], ax=axes()),
    lambda at: ff.rank_by_depth(synthetic(**SMALL), conditions=["fa"], ax=axes()),
    lambda at: ff.rank_by_depth(synthetic(**SMALL), ax=axes()),
)
ADVICE.row(
    "give each condition its own",
    lambda at: ff.theme(labels={"bp": "net", "fa": "net"}),
    lambda at: ff.theme(labels={"bp": "net", "fa": "other net"}),
)
ADVICE.row(
    "draws an array of overlaps, not a",
    lambda at: ff.overlap_matrix(synthetic(**SMALL), ax=axes()),
    lambda at: ff.overlap_matrix(overlap_matrix(build_run(0), layer="fc1", k=1), ax=axes()),
)
ADVICE.row(
    "; give the first and the last step",
    lambda at: ff.rank_over_training(synthetic(**SMALL), steps=[0], ax=axes()),
    lambda at: ff.rank_over_training(synthetic(**SMALL), steps=[0, 350], ax=axes()),
)
ADVICE.row(
    "it is a folder; name a file in it",
    lambda at: ff.save(axes(), at),
    lambda at: ff.save(axes(), at / "fig1"),
)
ADVICE.row(
    "is no figure of matplotlib; give a Figure or an Axes",
    lambda at: ff.save([], at / "fig1"),
    lambda at: ff.save(Figure(), at / "fig1"),
    lambda at: ff.save(axes(), at / "fig1"),
)
ADVICE.row(
    "aspect={aspect} is not positive; give the height as a share of the width",
    lambda _: ff.size("icml", aspect=-1),
    lambda _: ff.size("icml", aspect=0.5),
)
ADVICE.row(
    "order={order} is one text; give a list of conditions",
    lambda _: ff.theme(order="bp"),
    lambda _: ff.theme(order=["bp"]),
)


def without_rules(rule):
    results = synthetic(**SMALL)
    for stream in ("probe", "log", "state"):
        results[stream] = (
            results[stream].to_dataset().assign_coords(rule=("run", np.array([rule] * 6, object)))
        )
    return results


for _rule, _says in (
    ("fa", "no condition has the rule 'bp'; name one with baseline="),
    ("bp", "({several}); name one with baseline="),
):

    @ADVICE.story(_says)
    def _(at, provoked, rule=_rule):
        results = without_rules(rule)
        with provoked() as heard:
            heard.append(ff.caption(ff.rank_gap(results, ax=axes())))
        assert "fa − bp = " in ff.caption(ff.rank_gap(results, baseline="bp", ax=axes()))


@ADVICE.story("paired; `fadiag compare` compares unpaired runs")
def _(at, provoked):
    unpaired = synthetic(**SMALL, seeds=(0, 1, 2, 3)).isel(run=[0, 1, 6, 7])  # seeds 0, 1 of bp, 2, 3 of fa
    with provoked() as heard:
        heard.append(ff.caption(ff.accuracy_over_training(unpaired, ax=axes())))
    for side, condition in (("a", "bp"), ("b", "fa")):
        save_results(select(unpaired, condition=condition), at / f"{side}.zarr")
    done = CliRunner().invoke(main, ["compare", str(at / "a.zarr"), str(at / "b.zarr"), "--all"])
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if line.startswith("test_accuracy ")]
    assert "unpaired" in done.stdout


def heat(**options):
    return ff.layer_step_heatmap(synthetic(**SMALL), ax=axes(), **options)


ADVICE.row(
    "limits={limits} are not increasing; give (lowest, highest)",
    lambda _: heat(condition="fa", limits=(3, 2)),
    lambda _: heat(condition="fa", limits=(2, 3)),
)
ADVICE.row(
    "limits={limits} of a logarithmic scale are not positive; give (lowest, highest)",
    lambda _: heat(condition="fa", limits=(0, 3)),
    lambda _: heat(condition="fa", limits=(1, 3)),
    lambda _: heat(condition="fa", metric="cosine", limits=(0, 1)),
)
ADVICE.row(
    "name one: condition=...",
    lambda _: heat(),
    lambda _: heat(condition="fa"),
    lambda _: ff.per_condition(ff.layer_step_heatmap, synthetic(**SMALL), figure=Figure()),
)
ADVICE.row(
    "steps is empty; name at least one, or leave it out",
    lambda _: ff.per_step(ff.rank_by_depth, synthetic(**SMALL), steps=[], figure=Figure()),
    lambda _: ff.per_step(ff.rank_by_depth, synthetic(**SMALL), steps=[0], figure=Figure()),
    lambda _: ff.per_step(ff.rank_by_depth, synthetic(**SMALL), figure=Figure()),
)
ADVICE.row(
    "is not one step; per_step(..., steps=...) draws several",
    lambda _: ff.rank_by_depth(synthetic(**SMALL), step=[0, 50], ax=axes()),
    lambda _: ff.per_step(ff.rank_by_depth, synthetic(**SMALL), steps=[0, 50], figure=Figure()),
)
ADVICE.row(
    "is not one layer; per_layer(..., layers=...) draws several",
    lambda _: ff.rank_over_training(synthetic(**SMALL), layer=["fc1", "out"], ax=axes()),
    lambda _: ff.per_layer(ff.rank_over_training, synthetic(**SMALL), layers=["fc1", "out"], figure=Figure()),
)
ADVICE.row(
    "is not one layer; per_layer(..., layers=...) draws several",
    lambda _: ff.rank_over_training(synthetic(**SMALL), layers=["fc1", "out"], ax=axes()),
    lambda _: ff.per_layer(ff.rank_over_training, synthetic(**SMALL), layers=["fc1", "out"], figure=Figure()),
)
for _probe, _draw in (
    ("{text}; record it with Probe(..., gate_draws=20).", ff.rank_by_depth),
    ("{text}; record it with Probe(..., redraws=99).", ff.credit_cosine),
):

    @ADVICE.story(_probe)
    def _(at, provoked, draw=_draw):
        with provoked() as heard:
            heard.append(ff.small_print(draw(synthetic(**SMALL, nulls=False), ax=axes())))
        with_null = ff.credit_cosine(synthetic(**SMALL), ax=axes())
        assert "record it" not in ff.small_print(with_null)


ADVICE.row(
    "is no matrix of overlaps; take that of fadiag.analysis.overlap_matrix",
    lambda _: ff.overlap_matrix(xr.DataArray(np.eye(2)), ax=axes()),
    lambda _: ff.overlap_matrix(overlap_matrix(build_run(), layer="fc2"), ax=axes()),
)


@ADVICE.story("the results hold no {measure.name}; keep it with analyze(spectra={signal})")
def _(at, provoked):
    def drawn(**options):
        results = analyze(build_run(), metrics=["error_cosine"], **options)
        return ff.caption(ff.spectrum(results, ax=axes()))

    with provoked() as heard:
        heard.append(drawn())
    assert "directions that hold 90 % of the energy" in drawn(spectra="error")
