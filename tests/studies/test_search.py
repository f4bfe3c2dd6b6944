"""The search of learning rates: the choice, its flags, and the scaling of a condition's optimizers."""

import math

import pytest

from fadiag.studies import SearchTable
from fadiag.studies.runs.search import Point, choose, rate_chosen, rated, search_runs
from fadiag.training import Config, OptimizerConfig
from tests.studies.small import SEARCH, declared


def curve(scores: dict[float, tuple[float | None, ...]]):
    return choose(Point(rate, rate, values) for rate, values in scores.items())


def test_the_smallest_rate_within_one_standard_error_of_the_best_is_chosen() -> None:
    scores = {0.01: (0.5, 0.6, 0.7), 0.1: (0.6, 0.7, 0.8), 1.0: (0.62, 0.7, 0.81), 10.0: (0.1, 0.1, 0.1)}
    found = curve(scores)
    error = 0.0956 / math.sqrt(3)  # of 0.62, 0.7, 0.81
    assert found.best == 1.0
    assert 0.7 > 0.71 - error > 0.6
    assert (found.chosen, found.at_edge) == (0.1, False)


def test_with_one_seed_the_best_is_chosen_and_of_equals_the_smallest() -> None:
    assert curve({0.01: (0.5,), 0.1: (0.6,), 1.0: (0.599,)}).chosen == 0.1
    assert curve({1.0: (0.6,), 0.1: (0.6,), 0.01: (0.1,)}).chosen == 0.1


@pytest.mark.parametrize(
    ("scores", "at_edge"),
    [
        ({0.01: (0.9,), 0.1: (0.6,), 1.0: (0.5,)}, True),
        ({0.01: (0.1,), 0.1: (0.6,), 1.0: (0.9,)}, True),
        ({0.01: (0.1,), 0.1: (0.6,), 1.0: (None,)}, False),  # beyond it the loss is not finite
        ({0.01: (0.6, 0.8), 0.1: (0.7, 0.8), 1.0: (0.1, 0.1)}, True),  # the chosen one, not the best
    ],
)
def test_an_optimum_at_the_edge_of_the_grid_is_flagged(scores, at_edge) -> None:
    assert curve(scores).at_edge is at_edge


def test_a_rate_at_which_a_seed_diverged_does_not_count() -> None:
    found = curve({0.01: (0.5, 0.5), 0.1: (0.9, None)})
    assert (found.best, found.chosen) == (0.01, 0.01)
    assert curve({0.1: (None,), 0.2: (None,)}).chosen is None


def test_both_optimizers_of_a_condition_are_scaled_by_one_factor() -> None:
    muon = Config(optimizer=OptimizerConfig(name="muon", learning_rate=0.1))
    by_rate = rated(muon, SearchTable(rates=(0.3,), seeds=(9,)), 0.3)
    by_factor = rated(muon, SearchTable(factors=(3.0,), seeds=(9,)), 3.0)
    assert by_rate == by_factor
    assert (by_rate.optimizer.learning_rate, by_rate.optimizer.rest.learning_rate) == (0.3, 0.003)
    sgd = Config(optimizer=OptimizerConfig(learning_rate=0.1))
    assert rated(sgd, SearchTable(rates=(0.3,), seeds=(9,)), 0.3).optimizer.rest == sgd.optimizer.rest


def test_every_searched_condition_has_the_same_budget_and_no_test_image() -> None:
    more = SEARCH + "from.c = 'fa'\n[conditions.c]\n[conditions.d]\nsearch = false\n"
    study = declared(more=more)
    runs = search_runs(study)
    assert [(setting, run.condition, run.config.seeds.init) for setting, run in runs] == [
        (0.01, "bp", 100),
        (0.02, "bp", 100),
        (0.01, "fa", 100),
        (0.02, "fa", 100),
    ]
    assert {run.config.data.held_out for _, run in runs} == {"validation"}
    curves = {
        "bp": curve({0.01: (None,), 0.02: (None,)}),
        "fa": curve({0.01: (0.9,), 0.02: (0.1,)}),
    }
    chosen = rate_chosen(study, curves)
    rates = {name: one.config.optimizer.learning_rate for name, one in chosen.items()}
    assert rates == {"fa": 0.01, "c": 0.01, "d": 0.02}  # bp trains at no rate
