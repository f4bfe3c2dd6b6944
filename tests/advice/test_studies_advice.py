"""The advice of fadiag.studies."""

import errno
from unittest import mock

import pytest

from fadiag.studies import load_study, run_study
from fadiag.studies.plan import place_of
from fadiag.studies.runs import pool, schedule
from fadiag.studies.runs.pool import finish_run, outcome_of
from fadiag.studies.runs.workers import _death
from tests.advice.advice import Table
from tests.studies.small import SEARCH, TEXT, declared

ADVICE = Table()


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    """The report draws every figure."""
    monkeypatch.setattr(
        "fadiag.studies.outputs.write.write_report", lambda results, path, **options: path.touch()
    )


def loaded(text):
    """Return a call that reads a study of this text."""

    def call(at):
        path = at / "study.toml"
        path.write_text(text, encoding="utf-8")
        return load_study(path)

    return call


def study(at, *overrides, **options):
    """Run a study of one seed in this process."""
    return run_study(declared("seeds.reported=[0]", *overrides), at, workers=0, **options)


BARE = TEXT.replace('[conditions.bp]\nrule = "bp"\n[conditions.fa]\nrule = "fa"\n', "")
assert "[conditions" not in BARE

ADVICE.row(
    "has no conditions; add tables such as [conditions.bp]",
    loaded(BARE + "[conditions]\n"),
    loaded(BARE + "[conditions.bp]\nrule = 'bp'\n[conditions.fa]\n"),
)
ADVICE.row(
    "has both or neither of 'rates' and 'factors'; give one",
    loaded(TEXT + SEARCH + "factors = [1.0]\n"),
    loaded(TEXT + SEARCH),
    loaded(TEXT + SEARCH.replace("rates", "factors")),
)
ADVICE.row(
    "which has none of its own; name {taken[pair[1]]} there",
    loaded(TEXT + SEARCH + "from = { c = 'd', d = 'fa' }\n[conditions.c]\n[conditions.d]\n"),
    loaded(TEXT + SEARCH + "from = { c = 'fa', d = 'fa' }\n[conditions.c]\n[conditions.d]\n"),
)
ADVICE.row(
    "give a list of values",
    loaded(TEXT + "[grid]\n'model.gate' = 'tanh'\n"),
    loaded(TEXT + "[grid]\n'model.gate' = ['tanh']\n"),
)
ADVICE.row(
    "'grid' makes {one.name} twice; give each value once",
    loaded(TEXT + "[grid]\n'model.weight_scale' = [1, 1.0]\n"),
    loaded(TEXT + "[grid]\n'model.weight_scale' = [1.0]\n"),
)
ADVICE.row(
    "has values that the search replaces; give its rates in 'search', or drop 'search'",
    loaded(TEXT + SEARCH + "[grid]\n'optimizer.learning_rate' = [0.01, 0.1]\n"),
    loaded(TEXT + SEARCH.replace("0.02", "0.1")),
    loaded(TEXT + "[grid]\n'optimizer.learning_rate' = [0.01, 0.1]\n"),
)
THEOREM = "[[theorems]]\nlaw = 'A law.'\nmetric = 'error_cosine'\n"

ADVICE.row(
    "has no bound; give it at_least or at_most",
    loaded(TEXT + THEOREM),
    loaded(TEXT + THEOREM + "at_least = -1\n"),
    loaded(TEXT + THEOREM + "at_most = 1\n"),
)
ADVICE.row(
    "is not a key of a study's base or condition; use {instead}",
    loaded(TEXT + "[conditions.c]\nseeds.init = 3\n"),
    loaded(TEXT.replace("[0, 1]", "[3]") + "[conditions.c]\n"),
)
ADVICE.row(
    "it has 'search = false' and a rate in 'search.from'; drop one of them",
    loaded(TEXT + SEARCH + "from.c = 'fa'\n[conditions.c]\nsearch = false\n"),
    loaded(TEXT + SEARCH + "from.c = 'fa'\n[conditions.c]\n"),
    loaded(TEXT + SEARCH + "[conditions.c]\nsearch = false\n"),
)
ADVICE.row(
    "name two or three of 'init', 'data', 'feedback'",
    lambda at: declared("seeds.cross=['init']"),
    lambda at: declared("seeds.cross=['init', 'feedback']"),
    lambda at: declared("seeds.cross=['init', 'data', 'feedback']"),
)
ADVICE.row(
    "take other search.seeds",
    lambda at: declared("seeds.reported=[100]", more=SEARCH),
    lambda at: declared("seeds.reported=[100]", "search.seeds=[101]", more=SEARCH),
)
ADVICE.row(
    "which is a control; contrast another condition",
    lambda at: declared("conditions.fa.control=true"),
    lambda at: declared("conditions.fa.control=true", "conditions.c={}", "primary.contrast=['c', 'bp']"),
)
ADVICE.row(
    "which is not searched; name a condition that is",
    loaded(TEXT + SEARCH + "from.fa = 'c'\n[conditions.c]\nsearch = false\n"),
    loaded(TEXT + SEARCH + "from.fa = 'bp'\n[conditions.c]\nsearch = false\n"),
)
ADVICE.row(
    "give all conditions one record.unfolding",
    lambda at: declared("conditions.fa.record.unfolding='channels'"),
    lambda at: declared("base.record.unfolding='channels'"),
)
ADVICE.row(
    "with itself; name two conditions",
    lambda at: declared("primary.contrast=['fa', 'fa']"),
    lambda at: declared("primary.contrast=['fa', 'bp']"),
)
ADVICE.row(
    "give at least one, or 0 for this process",
    lambda at: run_study(declared(), at, workers=-1),
    study,
)


@ADVICE.story("is damaged: {error}; delete it or take another folder")
def _(at, provoked):
    study(at / "a")
    (at / "a" / "study.json").write_text("{")
    with provoked():
        study(at / "a")
    study(at / "b", pool=at / "a" / "pool")
    (at / "a" / "study.json").unlink()
    study(at / "a")


@ADVICE.story("the question is declared before the runs; take another folder")
def _(at, provoked):
    study(at / "a")
    with provoked():
        study(at / "a", "primary.layer=fc1")
    study(at / "b", "primary.layer=fc1", pool=at / "a" / "pool")


@ADVICE.story("is damaged: {error}; delete the folder {place}")
def _(at, provoked):
    run = declared().runs(declared().conditions)[0]
    place = place_of(at, run.config)
    finish_run(place, run.config)
    (place / "outcome.json").write_text("{")
    with provoked():
        outcome_of(place)
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    place.rmdir()
    assert finish_run(place, run.config).status == "complete"


@ADVICE.story("make room, and run the study again to go on")
def _(at, provoked):
    full = OSError(errno.ENOSPC, "No space left on device")
    with provoked(), mock.patch.object(pool, "train", side_effect=full):
        study(at)
    assert len(study(at).stores) == 2


@ADVICE.story("so start a cluster and run the study again")
def _(at, provoked):
    class Lost:
        def __init__(self, address):
            pass

        def __enter__(self):
            executor = mock.Mock()
            executor.submit.side_effect = OSError("the connection is closed")
            return executor

        def __exit__(self, *_):
            return False

    with provoked(), mock.patch.object(schedule, "cluster_executor", Lost):
        study(at, scheduler="tcp://10.0.0.1:8786")
    study(at)


@ADVICE.story("if memory ran out, take fewer workers")
def _(at, provoked):
    process = mock.Mock(exitcode=-9)
    with provoked():
        raise _death("fa-seed0", process)
    assert len(study(at).stores) == 2  # with none, in this process
