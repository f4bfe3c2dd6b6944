"""Studies from their declaration to their page, with runs from a pool."""

import csv
import errno
import json
import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
import xarray as xr

import fadiag
from fadiag.errors import ConfigError, FadiagError, InputError, StoreError
from fadiag.report.alerts import alerts
from fadiag.report.differences import differences
from fadiag.report.question import ask
from fadiag.report.verdict import verdict
from fadiag.results import at_matched_loss, load_results
from fadiag.store import open_run, run_info
from fadiag.studies import plan_study, run_study
from fadiag.studies.declared.declaration import declare
from fadiag.studies.outputs.rows import condition_rows
from fadiag.studies.plan import place_of
from fadiag.studies.runs import pool as pool_module
from fadiag.studies.runs.data import data_facts
from fadiag.studies.runs.pool import finish_run, outcome_of, store_of
from fadiag.training import TRAINER_VERSION, DivergedError, train
from tests.studies.small import SEARCH, declared
from tests.training.stores import assert_same


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ids(pool: Path) -> dict[str, str]:
    return {path.name: run_info(store_of(path)).run_id for path in pool.iterdir()}


#: Its loss is soon not finite: there are no gates that could all close.
WILD = "[conditions.wild]\nmodel.gate = 'linear'\noptimizer.learning_rate = 1e6\ntrain.epochs = 5\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study with a search, a control, and a condition that diverges."""
    out = tmp_path_factory.mktemp("made")
    study = declared(
        "figures.names=['accuracy_over_training']",
        more=SEARCH
        + WILD
        + 'search = false\n[conditions.frozen]\nrule = "frozen"\ncontrol = true\n'
        + "record.every = { per_decade = 2 }\n",
    )
    calls: list[tuple[int, int, str]] = []

    class Bar:
        def __enter__(self):
            return lambda done, total, note: calls.append((done, total, note))

        def __exit__(self, *_):
            return None

    result = run_study(study, out, workers=0, progress=lambda what: Bar(), command="fadiag study s.toml")
    return study, out, result, calls


def test_runs_are_paired_by_seed_and_have_the_names_of_the_study(made) -> None:
    study, out, result, _ = made
    assert list(result.stores)[:4] == ["bp-seed0", "fa-seed0", "wild-seed0", "frozen-seed0"]
    runs = {name: open_run(store) for name, store in result.stores.items()}
    first = {name: run["static/fc2/weight_init"].values for name, run in runs.items()}
    assert np.array_equal(first["bp-seed0"], first["fa-seed0"])
    assert not np.array_equal(first["fa-seed0"], first["fa-seed1"])
    # The same first batch too: before any update, the forward pass does not know the rule.
    losses = {name: float(run["log/loss"].dropna("step")[0]) for name, run in runs.items()}
    assert losses["bp-seed0"] == losses["fa-seed0"]
    probe = result.results["probe"]
    assert set(map(str, probe["condition"].values)) == set(study.conditions)
    assert set(map(str, probe["study"].values)) == {"small"}
    assert set(map(str, probe["primary_metric"].values)) == {"error_participation_ratio_centered"}
    assert set(map(str, probe["primary_layer"].values)) == {"fc2"}
    for store in result.stores.values():
        assert store.parent.parent == out / "pool"


def test_a_run_is_the_trainers_own_and_its_address_has_the_hash_of_its_data(made, tmp_path) -> None:
    result = made[2]
    store = result.stores["fa-seed1"]
    outcome = outcome_of(store.parent)
    assert outcome is not None
    alone = train(outcome.config, tmp_path / "alone.zarr", device="cpu")
    assert_same(alone, store)
    assert data_facts(outcome.config.data).sha256 == run_info(store).manifest["meta"]["data_sha256"]


def test_the_table_has_a_row_for_each_run_and_the_numbers_of_the_results(made) -> None:
    _, out, result, _ = made
    rows = table(out / "table.csv")
    assert len(rows) == 8
    fa = next(row for row in rows if (row["condition"], row["seed"]) == ("fa", "1"))
    assert (fa["status"], fa["layer"], fa["control"]) == ("complete", "fc2", "false")
    assert fa["address"] == result.stores["fa-seed1"].parent.name
    own = fadiag.analyze(result.stores["fa-seed1"])
    rank = own["probe/error_participation_ratio_centered"].isel(run=0, step=-1).sel(layer="fc2")
    assert float(fa["error_participation_ratio_centered"]) == pytest.approx(float(rank), rel=1e-12)
    assert float(fa["test_accuracy"]) == float(own["log/test_accuracy"].dropna("step").values[0, -1])
    means = {row["condition"]: row for row in table(out / "conditions.csv")}
    of_fa = [float(row["error_cosine"]) for row in rows if row["condition"] == "fa"]
    assert float(means["fa"]["error_cosine"]) == pytest.approx(np.mean(of_fa))
    assert float(means["fa"]["error_cosine_low"]) < np.mean(of_fa) < float(means["fa"]["error_cosine_high"])


def test_a_diverged_run_is_kept_and_shown_and_ends_nothing(made) -> None:
    _, out, result, _ = made
    wild = [row for row in table(out / "table.csv") if row["condition"] == "wild"]
    assert [row["status"] for row in wild] == ["diverged", "diverged"]
    assert not any(row["test_accuracy"] or row["error_cosine"] for row in wild)
    assert run_info(result.stores["wild-seed0"]).status == "failed"
    page = (out / "page.md").read_text(encoding="utf-8")
    assert "## Runs that diverged\n\n- wild, seed 0 (learning rate 1,000,000" in page
    assert "Runs that diverged have no value." in page


def test_a_few_survivors_are_counted_and_claim_nothing(tmp_path, monkeypatch) -> None:
    def fragile(config, out, **options):
        def progress(*_):
            if config.rule == "fa" and config.seeds.init:
                raise DivergedError("the loss is nan")

        return train(config, out, progress=progress, **options)

    monkeypatch.setattr(pool_module, "train", fragile)
    study = declared(
        "base.train.epochs=2", "seeds.reported=[0, 1, 2]", "primary.metric=test_accuracy", "metrics=[]"
    )
    result = run_study(study, tmp_path, workers=0)
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "| fa | 1 of 3 | 0.02 |" in page
    assert "| bp | 3 | 0.02 |" in page
    assert result.answer.startswith(
        "Nothing is claimed of test accuracy, since runs are missing, dead or diverged: fa − bp = "
    )
    assert " over 1 of 3 pairs (" in result.answer
    assert "2 of 3 runs of fa left out" in result.answer
    assert "of b left out" not in page


def test_all_runs_of_a_condition_may_have_values_that_end_early_and_nothing_is_claimed(
    tmp_path, monkeypatch
) -> None:
    def fragile(config, out, **options):
        def progress(*_):
            if config.rule == "fa":
                raise DivergedError("the loss is nan")

        return train(config, out, progress=progress, **options)

    monkeypatch.setattr(pool_module, "train", fragile)
    result = run_study(declared("base.train.epochs=2"), tmp_path, workers=0)
    assert result.answer.startswith("Nothing is claimed of ")
    assert "fa at step" in result.answer


def test_intervals_of_conditions_stay_within_the_possible_values() -> None:
    study = declared()
    rows = [{"condition": "bp", "learning_rate": 1, "rest_learning_rate": None, "status": "complete"}] * 2
    values = ({"test_accuracy": 0.1, "error_cosine": 0.9}, {"test_accuracy": 0.3, "error_cosine": 1.0})
    made = condition_rows(study, [row | more for row, more in zip(rows, values, strict=True)], xr.DataTree())[
        0
    ]
    assert (made["test_accuracy_low"], made["test_accuracy_high"]) == (0, 1)
    assert made["error_cosine_low"] == pytest.approx(0.95 - 12.706 * 0.05, abs=1e-3)
    assert made["error_cosine_high"] == 1


def test_ranks_of_conditions_are_of_living_layers_and_at_most_n() -> None:
    study = declared('metrics=["error_effective_rank_raw"]')
    name = "error_effective_rank_raw"
    attrs = {"samples": 12, "unfolding": "samples"}
    probe = xr.Dataset({name: xr.DataArray(np.zeros((1, 1, 1)), dims=("run", "layer", "step"), attrs=attrs)})
    results = xr.DataTree.from_dict({"/probe": probe.assign_attrs(kind="probe")})
    base = {"condition": "fa", "learning_rate": 1, "rest_learning_rate": None, "status": "complete"}
    made = {
        row["condition"]: row
        for row in condition_rows(study, [base | {name: v} for v in (0.0, 10, 11)], results)
    }
    fa = made["fa"]
    assert (fa[name], fa[f"{name}_n"], fa[f"{name}_dead"]) == (10.5, 2, 1)
    assert (fa[f"{name}_low"], fa[f"{name}_high"]) == (pytest.approx(10.5 - 12.7062 / 2), 12)


def test_runs_of_a_gpu_are_others_in_the_pool(tmp_path) -> None:
    study = declared("seeds.reported=[0]")
    run_study(study, tmp_path, workers=0)
    assert [one.status for one in plan_study(study, tmp_path / "pool")] == ["complete", "complete"]
    on_gpu = plan_study(declared("seeds.reported=[0]", "device=cuda"), tmp_path / "pool")
    assert [one.status for one in on_gpu] == [None, None]
    auto = plan_study(declared("seeds.reported=[0]", "device=auto"), tmp_path / "pool")
    assert {one.status for one in auto} == ({None} if torch.cuda.is_available() else {"complete"})


def test_one_seed_has_no_interval_and_claims_nothing(tmp_path) -> None:
    result = run_study(declared("seeds.reported=[0]"), tmp_path, workers=0)
    assert result.answer.startswith("Nothing is claimed of error participation ratio centered at fc2, since ")
    assert "since there is no interval: fa − bp = " in result.answer
    assert "With 1 seed there is no p-value" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_the_contrasts_begin_with_the_primary_one_and_leave_controls_out_of_it(made) -> None:
    _, out, _, _ = made
    rows = table(out / "contrasts.csv")
    primary = [row for row in rows if row["primary"] == "true"]
    assert rows[:1] == primary
    assert (primary[0]["condition"], primary[0]["baseline"], primary[0]["layer"]) == ("fa", "bp", "fc2")
    assert (primary[0]["design"], primary[0]["runs"], primary[0]["p"]) == ("paired", "2", "")
    assert {row["control"] for row in rows if row["condition"] == "frozen"} == {"true"}
    ranks: dict[str, list[float]] = {"bp": [], "fa": []}
    for row in table(out / "table.csv"):
        if row["condition"] in ranks:
            ranks[row["condition"]].append(float(row["error_participation_ratio_centered"]))
    difference = np.mean(ranks["fa"]) - np.mean(ranks["bp"])
    assert float(primary[0]["difference"]) == pytest.approx(difference)
    assert any(row["condition"] == "wild" and row["note"] for row in rows)


def test_the_conditions_are_compared_at_equal_training_loss(made) -> None:
    _, out, result, _ = made
    rows = table(out / "matched.csv")
    metrics = [
        "error_participation_ratio_centered",
        "error_effective_rank_centered",
    ]  # modulators were not recorded
    assert [row["metric"] for row in rows if (row["condition"], row["seed"]) == ("fa", "all")] == metrics
    means = [row for row in rows if row["seed"] == "all" and row["metric"] == metrics[1]]
    assert [(row["condition"], row["baseline"]) for row in means] == [
        ("fa", "bp"),
        ("wild", "bp"),
        ("frozen", "bp"),
    ]
    mean, *pairs = [row for row in rows if row["condition"] == "fa" and row["metric"] == metrics[0]]
    assert (mean["primary"], mean["layer"], mean["runs"], mean["planned"]) == ("true", "fc2", "2", "2")
    assert [row["seed"] for row in pairs] == ["0", "1"]
    found = at_matched_loss(result.results, metrics[0], "fa", "bp", layer="fc2")
    assert [float(row["difference"]) for row in pairs] == [pair.difference for pair in found.pairs]
    assert float(mean["low"]) == found.interval.low
    assert float(mean["difference"]) == pytest.approx(found.interval.mean, rel=1e-12)
    # A run that diverged has no pair.
    wild = next(row for row in rows if (row["condition"], row["metric"]) == ("wild", metrics[0]))
    assert (wild["runs"], wild["level"]) == ("0", "")
    assert wild["note"] == "wild-seed0 diverged; wild-seed1 diverged"
    page = (out / "page.md").read_text(encoding="utf-8")
    section = page.split("## At equal training loss\n")[1].split("\n## ")[0]
    assert "**fa − bp** | error participation ratio centered |" in section
    assert page.index("## Differences") < page.index("## At equal") < page.index("## Learning rates")


def test_the_search_is_in_its_table_and_its_choice_in_the_runs(made) -> None:
    _, out, _, _ = made
    rows = table(out / "search.csv")
    assert [(row["condition"], row["setting"]) for row in rows[:2]] == [("bp", "0.01"), ("bp", "0.02")]
    assert {row["condition"] for row in rows} == {"bp", "fa", "frozen"}
    chosen = {row["condition"]: row["learning_rate"] for row in rows if row["chosen"] == "true"}
    for row in table(out / "table.csv"):
        assert row["learning_rate"] == chosen.get(row["condition"], "1000000.0")
    page = (out / "page.md").read_text(encoding="utf-8")
    assert "is at the edge of the grid" in page  # two rates have nothing but edges


def test_the_page_says_what_was_declared_found_and_not_found(made) -> None:
    study, out, result, _ = made
    page = (out / "page.md").read_text(encoding="utf-8")
    assert page.startswith(f"# small\n\n{study.question}\n")
    assert f"**{result.answer}**" in page
    for words in (
        "contrast: fa − bp, expected lower",
        "seeds: 0, 1",
        "search: rates 0.01, 0.02, seeds 100, by validation accuracy",
        "With 2 seeds there is no p-value",
        "Means over runs with 95 % t intervals, cut to the possible values",
        "Paired by seed, at the primary layer",
        "The rates of wild are declared, not searched here.",
        "![Accuracy over training](figures/accuracy_over_training.png)",
        "`fadiag study s.toml`",
        "torch 2.",
        "[frozen] rule = frozen, ",
        ", record.every.per_decade = 2",
        "frozen (control)",
    ):
        assert words in page, words
    assert {path.name for path in (out / "figures").iterdir()} == {
        "accuracy_over_training.csv",
        "accuracy_over_training.pdf",
        "accuracy_over_training.png",
        "accuracy_over_training.tex",
    }
    assert (out / "report.html").stat().st_size > 1000
    declaration = json.loads((out / "study.json").read_bytes())
    assert declaration["primary"]["contrast"] == ["fa", "bp"]
    assert declaration["conditions"]["fa"]["config"]["train"]["epochs"] == 1


def test_the_results_alone_give_the_verdict_of_the_studys_report(made) -> None:
    study, out, _, _ = made
    results = load_results(out / "results.zarr")
    question = ask(results)
    assert (question.text, question.treated, question.baseline) == (study.question, ("fa",), "bp")
    assert (question.tail, question.is_declared) == ("lower", True)
    found = verdict(results, question, differences(results, question, [question.metric]))
    html = unescape((out / "report.html").read_text(encoding="utf-8"))
    for line in (found.question, found.answer, *found.numbers, *found.nulls, *found.limits):
        assert line in html
    assert "fadiag study s.toml" in html  # the command is an entry of the results too
    assert [alert.where for alert in alerts(results, question) if "edge of the search" in alert.what]


def test_initialization_and_nulls_are_next_to_the_last_value(tmp_path) -> None:
    study = declared("base.record.gate_draws=3", "base.record.redraws=3", "base.train.epochs=1")
    run_study(study, tmp_path, workers=0)
    results = load_results(tmp_path / "results.zarr")
    metric = study.primary.metric
    probe = results["probe"].sel(layer="fc2")
    (fa,) = [row for row in table(tmp_path / "conditions.csv") if row["condition"] == "fa"]
    mine = probe.isel(run=np.flatnonzero(probe["condition"].values == "fa"))
    assert float(fa[f"{metric}_first"]) == pytest.approx(float(mine[metric].isel(step=0).mean()))
    last = mine.isel(step=-1)
    for stem, column in (("gate_null", "gate_null"), ("null", "redrawn_null")):
        low, mean, high = (last[f"{metric}_{stem}_{part}"] for part in ("low", "mean", "high"))
        assert float(fa[f"{metric}_{column}_mean"]) == pytest.approx(float(mean.mean()))
        assert float(fa[f"{metric}_{column}_low"]) == pytest.approx(float(low.mean()))
        assert int(fa[f"{metric}_{column}_below"]) == int((last[metric] < low).sum())
        assert int(fa[f"{metric}_{column}_above"]) == int((last[metric] > high).sum())
        assert (fa[f"{metric}_{column}_runs"], fa[f"{metric}_{column}_draws"]) == ("2", "3")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    rank = "error participation ratio centered"
    assert f"| {rank} at step 0 | {rank} | runs below / above the gate null |" in page
    assert "Gate null: central 95 % for credit turned at random" in page
    beyond = [
        f"{fa[f'{metric}_{n}_below']} / {fa[f'{metric}_{n}_above']} of 2"
        for n in ("gate_null", "redrawn_null")
    ]
    assert f"| {' | '.join(beyond)} |" in next(
        line for line in page.splitlines() if line.startswith("| fa |")
    )


def test_the_numbers_of_the_answer_are_those_of_the_table(made) -> None:
    _, out, result, _ = made
    primary = table(out / "contrasts.csv")[0]
    numbers = re.search(r"fa − bp = (\S+), 95 % interval \[(\S+), (\S+)\]", result.answer)
    assert numbers is not None
    said = [float(number.replace("−", "-")) for number in numbers.groups()]
    there = [float(primary[name]) for name in ("difference", "low", "high")]
    assert said == pytest.approx(there, rel=1e-3)


def test_progress_counts_all_runs_and_estimates_the_time_left(made) -> None:
    calls = made[3]
    training = [call for call in calls if "left" in call[2]]
    assert [call[:2] for call in training] == [(number, 14) for number in range(1, 15)]
    assert training[0][2].startswith("bp at 0.01, seed 100, ")
    assert training[-1][2].endswith(", 0 s left")


def test_a_second_call_makes_nothing_and_writes_nothing(made) -> None:
    study, out, result, _ = made
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "study.json"}
    again = run_study(study, out, workers=0)
    assert again.answer == result.answer
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "study.json"} == before
    xr.testing.assert_identical(again.results["log"].to_dataset(), result.results["log"].to_dataset())


def test_another_study_takes_equal_runs_from_the_pool(made, tmp_path) -> None:
    _, out, _, _ = made
    before = ids(out / "pool")
    fast = declared("base.optimizer.learning_rate=0.01", "conditions.again={ rule = 'fa' }", "name=other")
    other = run_study(fast, tmp_path, pool=out / "pool", workers=0)
    after = ids(out / "pool")
    assert before.items() <= after.items()
    # Two of its conditions share their runs, under both of their names.
    assert other.stores["again-seed0"] == other.stores["fa-seed0"]
    ranks = {(row["condition"], row["seed"]): row["error_cosine"] for row in table(tmp_path / "table.csv")}
    assert ranks["again", "1"] == ranks["fa", "1"] != ranks["fa", "0"]
    plan = plan_study(fast, out / "pool")
    assert [(one.name, one.status) for one in plan][:2] == [
        ("bp-seed0", "complete"),
        ("fa-seed0", "complete"),
    ]
    slow = plan_study(declared("base.optimizer.learning_rate=0.5"), out / "pool")
    assert {one.status for one in slow} == {None}


def test_a_plan_does_not_know_rates_that_are_not_searched_yet(tmp_path) -> None:
    plan = plan_study(declared(more=SEARCH + "[conditions.d]\nsearch = false\n"), tmp_path)
    addresses = {one.name: one.address for one in plan}
    assert addresses["fa-seed0"] is None
    assert addresses["d-seed0"] is not None
    assert addresses["fa at 0.01, seed 100"] is not None


@pytest.mark.parametrize("key", ["metric=error_cosine", "layer=fc1", "contrast=['bp', 'fa']", "tail=upper"])
def test_a_folder_keeps_the_question_that_it_was_declared_for(key, tmp_path) -> None:
    run = declared("seeds.reported=[0]")
    declare(run, tmp_path / "study.json")
    declare(run, tmp_path / "study.json")
    with pytest.raises(
        ConfigError, match=rf"declares primary\.{key.partition('=')[0]} .*take another folder"
    ):
        run_study(declared(f"primary.{key}"), tmp_path, workers=0)
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(ConfigError, match=r"study\.json is damaged"):
        run_study(run, tmp_path, workers=0)


def test_what_is_changed_after_the_first_declaration_is_on_the_page(tmp_path) -> None:
    pool = tmp_path / "pool"
    run_study(declared("seeds.reported=[0]"), tmp_path / "a", pool=pool, workers=0)
    page = (tmp_path / "a" / "page.md").read_text(encoding="utf-8")
    assert "## Declared before the first run\n" in page
    changed = declared(
        *("seeds.reported=[1]", "base.optimizer.learning_rate=0.03", "conditions.c={ rule = 'bp' }"),
        "figures.colors={ fa = 'red' }",
    )
    for _ in range(2):  # an equal declaration is no change
        run_study(changed, tmp_path / "a", pool=pool, workers=0)
        page = (tmp_path / "a" / "page.md").read_text(encoding="utf-8")
        today = json.loads((tmp_path / "a" / "study.json").read_bytes())["amendments"][0]["date"]
        assert page.partition("holds the new values:\n\n")[2].partition("\n\n")[0].splitlines() == [
            f"- `seeds.reported` was [0], now [1] ({today})",
            f"- bp, fa: `optimizer.learning_rate` was 0.02, now 0.03 ({today})",
            f"- c: `condition` was nothing, now declared ({today})",
        ]
        assert "## Declared, and changed later\n" in page
        assert "before the first run" not in page
    # Also where the first declaration comes back.
    run_study(declared("seeds.reported=[0]"), tmp_path / "a", pool=pool, workers=0)
    page = (tmp_path / "a" / "page.md").read_text(encoding="utf-8")
    assert "`seeds.reported` was [1], now [0]" in page
    assert "- c: `condition` was declared, now nothing" in page


def test_a_layer_that_no_network_has_is_refused_before_anything_runs(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"has the primary layer 'fc9'; did you mean 'fc2' or 'fc1'"):
        run_study(declared("primary.layer=fc9"), tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="workers is -1; give at least one, or 0 for this process"):
        run_study(declared(), tmp_path / "out", workers=-1)


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("rule = 'kp'", "'odd': rule is 'kp', and with optimizer.weight_decay 0"),
        ("train.batch_size = 61", "'odd': train.batch_size is 61, but there are only 60 training samples"),
        ("record.probe_samples = 41", "'odd': record.probe_samples is 41, but there are only 40 test"),
        ("rule = 'frozen'\noptimizer.name = 'muon'", "'odd': optimizer.name is 'muon', and rule 'frozen'"),
        ("train.batch_size = 1\nmodel.norm = 'batch'", "'odd': train.batch_size is 1 in 1 part"),
    ],
)
def test_a_condition_that_cannot_run_is_refused_before_anything_runs(condition, says, tmp_path) -> None:
    study = declared(more=f"[conditions.odd]\n{condition}\n")
    with pytest.raises(ConfigError, match=re.escape(says)):
        run_study(study, tmp_path / "out", workers=0)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=re.escape(says)):
        plan_study(study, tmp_path / "pool")


def test_a_search_that_cannot_run_is_refused_too(tmp_path) -> None:
    """It trains on four fifths of the images."""
    study = declared("base.train.batch_size=50", more=SEARCH)
    with pytest.raises(ConfigError, match=r"'bp': train.batch_size is 50, .* only 48 training samples"):
        plan_study(study, tmp_path / "pool")


def test_the_first_layer_and_a_logged_value_can_be_primary(tmp_path) -> None:
    first = run_study(declared("primary.layer=first"), tmp_path / "a", pool=tmp_path / "pool", workers=0)
    assert {row["layer"] for row in table(tmp_path / "a" / "table.csv")} == {"fc1"}
    assert " at fc1 " in first.answer
    logged = declared("primary.metric=test_accuracy")
    accuracy = run_study(logged, tmp_path / "b", pool=tmp_path / "pool", workers=0)
    assert "est accuracy" in accuracy.answer
    assert " at fc" not in accuracy.answer
    page = (tmp_path / "b" / "page.md").read_text(encoding="utf-8")
    assert "primary metric: `test_accuracy`, at the last step" in page
    assert "one layer" not in page


def test_crossed_seeds_have_two_way_intervals_and_figures_of_equal_seeds(tmp_path) -> None:
    study = declared("seeds.cross=['init', 'feedback']", "figures.names=['accuracy_over_training']")
    result = run_study(study, tmp_path, workers=0)
    assert len(result.stores) == 8
    assert "fa-seed0-feedback1" in result.stores
    primary = table(tmp_path / "contrasts.csv")[0]
    assert (primary["design"], primary["runs"]) == ("crossed", "4")
    assert "4 pairs of crossed seeds" in result.answer
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "Means over runs (without intervals, since they share seeds)" in page
    assert "Paired by all seeds, at the primary layer" in page
    assert "Figures and report show only the runs whose seeds are all equal" in page
    only = "Only runs whose seeds are all equal are drawn, so means differ from those of all runs."
    assert table(tmp_path / "figures.csv")[0]["caption"].endswith(only)
    assert only in (tmp_path / "figures" / "accuracy_over_training.tex").read_text(encoding="utf-8")
    drawn = table(tmp_path / "figures" / "accuracy_over_training.csv")
    assert {(row["condition"], row["seed"]) for row in drawn if row["kind"] == "seed"} == {
        (c, s) for c in ("bp", "fa") for s in ("0", "1")
    }


def test_runs_that_conditions_share_under_crossing_have_labels_of_their_own(tmp_path) -> None:
    study = declared("seeds.cross=['init', 'feedback']", more="[conditions.again]\nrule = 'fa'\n")
    labels = [str(one) for one in run_study(study, tmp_path, workers=0).results["log"]["run"].values]
    assert len(set(labels)) == len(labels) == 12
    assert {"again-seed0", "again-seed0-feedback1"} <= set(labels)


def test_figures_of_a_grid_show_differences_to_the_declared_baseline(tmp_path) -> None:
    study = declared("figures.names=['conditions']", more='[grid]\n"model.weight_scale" = [1.0, 0.5]\n')
    run_study(study, tmp_path, workers=0)
    drawn = table(tmp_path / "figures" / "conditions.csv")
    differences = {row["condition"] for row in drawn if row["kind"] == "difference"}
    assert differences == {"fa weight_scale=1", "bp weight_scale=0.5", "fa weight_scale=0.5"}
    assert "name one with baseline=" not in table(tmp_path / "figures.csv")[0]["caption"]


def test_a_condition_that_trains_at_no_rate_is_said_so_and_the_rest_goes_on(tmp_path) -> None:
    more = "[search]\nrates = [1e6]\nseeds = [100]\n"
    study = declared(
        "conditions.fa={ rule = 'fa', model.gate = 'linear', train.epochs = 5 }",
        "conditions.bp={ rule = 'bp', search = false }",
        more=more,
    )
    result = run_study(study, tmp_path, workers=0)
    assert list(result.stores) == ["bp-seed0", "bp-seed1"]
    assert result.answer == "There is no answer: fa trains at no rate of the search."
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "- fa trains at no rate of the search: every one diverged" in page
    rows = {row["condition"]: row for row in table(tmp_path / "conditions.csv")}
    assert (rows["fa"]["runs"], rows["bp"]["runs"]) == ("0", "2")


def test_a_study_without_any_run_has_a_page(tmp_path) -> None:
    study = declared(
        "base.model.gate=linear", "base.train.epochs=5", more="[search]\nrates = [1e6]\nseeds = [100]\n"
    )
    result = run_study(study, tmp_path, workers=0)
    assert result.stores == {}
    assert "bp and fa trains at no rate" in result.answer or "fa and bp trains at no rate" in result.answer


def test_one_runs_error_is_reported_at_the_end_and_the_others_are_finished(tmp_path, monkeypatch) -> None:
    def broken(config, *args, **options):
        if config.rule == "bp":
            raise ValueError("a bug")
        return train(config, *args, **options)

    monkeypatch.setattr(pool_module, "train", broken)
    says = (
        r"2 of 4 runs failed, and 2 are finished and kept: bp-seed0 \(\w{16}\), bp-seed1 \(\w{16}\): ValueErr"
    )
    with pytest.raises(FadiagError, match=says):
        run_study(declared(), tmp_path, workers=0)
    monkeypatch.undo()
    kept = {one.name for one in plan_study(declared(), tmp_path / "pool") if one.status}
    assert kept == {"fa-seed0", "fa-seed1"}
    assert set(run_study(declared(), tmp_path, workers=0).stores) == {
        "bp-seed0",
        "fa-seed0",
        "bp-seed1",
        "fa-seed1",
    }


def test_a_full_disk_begins_no_run_and_loses_none(tmp_path, monkeypatch) -> None:
    begun = []

    def full(config, *args, **options):
        begun.append(config)
        if len(begun) == 3:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise StoreError("the store cannot be written") from error
        return train(config, *args, **options)

    monkeypatch.setattr(pool_module, "train", full)
    with pytest.raises(
        StoreError, match=r"is full: 2 of 4 runs are finished and kept; make room, and run the"
    ):
        run_study(declared(), tmp_path, workers=0)
    assert len(begun) == 3
    assert [one.status for one in plan_study(declared(), tmp_path / "pool")].count("complete") == 2
    monkeypatch.undo()
    assert len(run_study(declared(), tmp_path, workers=0).stores) == 4


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path) -> None:
    study = declared("base.train.epochs=3", "base.record.state=['weight']")
    run = study.runs(study.conditions)[1]
    whole, cut = (place_of(tmp_path / name, run.config) for name in ("whole", "cut"))
    assert finish_run(whole, run.config).status == "complete"
    killer = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "import msgspec\n"
        "import time\n"
        "from fadiag.studies.runs.pool import finish_run\n"
        "from fadiag.training import Config, trainer\n"
        "save = trainer.save_checkpoint\n"
        "def saved(*given):\n"
        "    save(*given)\n"
        "    if given[-1].step == 8:\n"
        "        time.sleep(2)  # until what came before is committed\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "trainer.save_checkpoint = saved\n"
        "config = msgspec.json.decode(sys.argv[2], type=Config)\n"
        "finish_run(Path(sys.argv[1]), config)\n"
    )
    killed = subprocess.run([sys.executable, "-c", killer, cut, msgspec.json.encode(run.config).decode()])
    assert killed.returncode == -9
    assert outcome_of(cut) is None
    assert run_info(store_of(cut)).status == "killed"
    before = run_info(store_of(cut)).run_id
    assert finish_run(cut, run.config).status == "complete"
    assert run_info(store_of(cut)).run_id == before  # it went on, and did not begin again
    assert_same(store_of(whole), store_of(cut))
    assert not store_of(cut).with_name("run.zarr.checkpoints").exists()


def test_a_run_that_was_killed_before_its_first_record_begins_again(tmp_path) -> None:
    run = declared().runs(declared().conditions)[0]
    place = place_of(tmp_path, run.config)
    store_of(place).mkdir(parents=True)
    assert finish_run(place, run.config).status == "complete"
    (place / "outcome.json").write_text("{")
    with pytest.raises(ConfigError, match=r"outcome.json is damaged: .*; delete the folder"):
        outcome_of(place)


def test_the_numbers_of_this_version_of_the_trainer(tmp_path) -> None:
    """A change of numbers raises `TRAINER_VERSION`, or studies take old runs for new ones."""
    run = declared().runs(declared().conditions)[1]
    store = train(run.config, tmp_path / "run.zarr", device="cpu")
    losses = open_run(store)["log/loss"].dropna("step").values
    assert TRAINER_VERSION == 1
    assert losses[-1] == pytest.approx(2.7555, abs=1e-3)
