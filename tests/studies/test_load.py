"""Study files: what they declare, profiles, the grid, and an error for all that is misspelled."""

import pytest

from fadiag.errors import ConfigError, InputError
from fadiag.studies import find_study, load_study, shipped_studies
from tests.studies.small import SEARCH, TEXT, declared


def refused(text: str, tmp_path, **options) -> str:
    path = tmp_path / "s.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_study(path, **options)
    return str(caught.value)


def test_a_file_declares_conditions_over_a_base_with_paired_seeds() -> None:
    study = declared(more='[conditions.frozen]\nrule = "frozen"\ncontrol = true\n')
    assert list(study.conditions) == ["bp", "fa", "frozen"]
    assert study.conditions["fa"].config.model.hidden == (8, 8)
    assert (study.conditions["bp"].config.rule, study.conditions["fa"].config.rule) == ("bp", "fa")
    assert [study.conditions[name].control for name in study.conditions] == [False, False, True]
    runs = study.runs(study.conditions)
    assert [run.name for run in runs][:3] == ["bp-seed0", "fa-seed0", "frozen-seed0"]
    assert {(r.config.seeds.init, r.config.seeds.data, r.config.seeds.feedback) for r in runs} == {
        (0, 0, 0),
        (1, 1, 1),
    }


def test_a_grid_crosses_every_condition_and_the_contrast_is_at_its_first_values() -> None:
    study = declared(more='[grid]\n"model.weight_scale" = [1.0, 0.1]\nmodel.gate = ["relu", "tanh"]\n')
    assert len(study.conditions) == 8
    assert study.primary.contrast == ("fa weight_scale=1 gate=relu", "bp weight_scale=1 gate=relu")
    one = study.conditions["fa weight_scale=0.1 gate=tanh"]
    assert (one.config.model.weight_scale, one.config.model.gate) == (0.1, "tanh")
    assert study.baseline_of(one.name) == "bp weight_scale=0.1 gate=tanh"
    assert study.baseline_of("bp weight_scale=0.1 gate=tanh") is None


def test_close_values_of_a_grid_have_names_of_their_own() -> None:
    study = declared(more='[grid]\n"model.weight_scale" = [0.12345611, 0.12345612, 1.0]\n')
    assert list(study.conditions)[:3] == [
        "bp weight_scale=0.12345611",
        "bp weight_scale=0.12345612",
        "bp weight_scale=1",
    ]
    assert len(study.runs(study.conditions)) == 12


@pytest.mark.parametrize(
    ("cross", "number", "shared"),
    [
        (["init", "feedback"], 4, "data"),
        (["data", "feedback"], 4, "init"),
        (["feedback", "init", "data"], 8, ""),
    ],
)
def test_seeds_cross(cross: list[str], number: int, shared: str) -> None:
    seeds = declared(f"seeds.cross={cross}").seed_tables()
    assert len(seeds) == len(set(map(repr, seeds))) == number
    for one in seeds:
        if shared:
            assert getattr(one, shared) == getattr(one, next(n for n in ("init", "data") if n in cross))


def test_a_profile_changes_the_file_and_a_plain_one_does_not() -> None:
    more = (
        "[profiles.ci]\nbase.train.epochs = 2\nseeds.reported = [7]\nonly = ['bp', 'fa']\nsearch = false\n"
        "[conditions.extra]\n"
    )
    study = declared(more=SEARCH + more, profile="ci")
    assert study.conditions["fa"].config.train.epochs == 2
    assert study.conditions["fa"].config.train.batch_size == 10
    assert (study.seeds.reported, list(study.conditions), study.search) == ((7,), ["bp", "fa"], None)
    plain = declared(more=SEARCH + more)
    assert (plain.profile, plain.seeds.reported, list(plain.conditions)) == (
        "cpu",
        (0, 1),
        ["bp", "fa", "extra"],
    )
    assert plain.search is not None


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[serach]\n", r"unknown key 'serach'; did you mean 'search'"),
        (
            "[conditions.x]\ntrain.epoch = 3\n",
            r"'x': unknown key 'train.epoch'; did you mean 'train.ep",
        ),
        ("[conditions.x]\ncontol = true\n", r"condition 'x': unknown key 'contol'; did you mean 'control'"),
        ("[conditions.x]\ncontrol = 1\n", r"condition 'x': 'control' is 1; it is true or false"),
        ("[conditions.x]\nrule = 'faa'\n", r"condition 'x': 'rule' is 'faa'; did you mean 'fa'"),
        (
            "[conditions.x]\nseeds.init = 3\n",
            r"'seeds' is not a key of a study's base or condition; use",
        ),
        (
            "[grid]\n'model.scale' = [1.0]\n",
            r"unknown key 'model.scale'; did .*'model.weight_scale'",
        ),
        ("[grid]\n'model.gate' = 'relu'\n", r"'grid.model.gate' is 'relu'; give a list of values"),
        ("[grid]\n'rule.x' = [1]\n", r"grid key 'rule.x' goes through 'rule', which is a value"),
        (
            SEARCH + "[grid]\n'optimizer.learning_rate' = [0.01, 0.1]\n",
            r"'grid.optimizer.learning_rate' has values that the search replaces; give its rates in 'search'",
        ),
        ("[grid]\n'model.weight_scale' = [1, 1.0]\n", r"'grid' makes 'bp weight_scale=1' twice; give each"),
        ("[profiles.ci]\nbase.train.epoch = 3\n", r"unknown key 'train.epoch'; did you mean 'train.epochs'"),
        (
            "[profiles.ci]\nsede.reported = [3]\n",
            r"unknown key 'profiles.ci.sede'; did .*'profiles.ci.see",
        ),
        ("[profiles]\nci = 3\n", r"'profiles' is no table of tables"),
        (
            SEARCH + "score = 'test_accuracy'\n",
            r"'search.score' is 'test_accuracy'; did you mean 'train",
        ),
        (SEARCH + "factors = [1.0]\n", r"'search' has both or neither of 'rates' and 'factors'; give one"),
        (SEARCH + "from.fa = 'pb'\n", r"'search.from' names the condition 'pb'; did you mean 'bp'"),
        (
            SEARCH + "from = { fa = 'bp', bp = 'fa' }\n",
            r"gives 'fa' the rate of 'bp', which has none",
        ),
        (
            SEARCH + "from.fa = 'x'\n[conditions.x]\nsearch = false\n",
            r"gives 'fa' the rate of 'x', which is not searched; name a",
        ),
        (SEARCH.replace("100", "1"), r"reports and searches with seed 1; take other search.seeds"),
        ("only = 3\n", r"unknown key 'seeds.only'"),
    ],
)
def test_what_does_not_fit_is_an_error_with_a_near_name(more: str, says: str, tmp_path) -> None:
    import re

    assert re.search(says, refused(TEXT + more, tmp_path))


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("primary.metric=eror_cosine", r"'primary.metric' names 'eror_cosine'; did you mean 'error_cosine'"),
        ("metrics=['loss', 'x']", r"'metrics' names 'x'; there are"),
        (
            "figures.names=['accuracy_over_trainin']",
            r"'figures.names' names 'accuracy_over_trainin'; did you mean 'accuracy_over_training",
        ),
        ("figures.labels={ff='FA'}", r"'figures.labels' names 'ff'; did you mean 'fa'"),
        ("figures.order=['bpp']", r"'figures.order' names 'bpp'; did you mean 'bp'"),
        ("figures.colors={fa='grue'}", r"the color 'grue' of 'fa' is no color of matplotlib"),
        ("primary.contrast=['fa', 'pb']", r"contrasts 'pb'; did you mean 'bp'"),
        (
            "conditions.fa.record.unfolding='channels'",
            "records the unfoldings channels and samples, and compares no metrics of two; give all",
        ),
        ("primary.contrast=['fa', 'fa']", r"contrasts 'fa' with itself; name two conditions"),
        ("conditions.fa.control=true", r"contrasts 'fa', which is a control"),
        ("primary.tail=left", r"'primary.tail' is 'left'; there are 'lower', 'upper', 'both'"),
        ("seeds.reported=[1, 1]", r"reports a seed twice: \[1, 1\]"),
        ("seeds.reported=[]", r"'seeds.reported' is \[\]"),
        ("seeds.cross=['init']", r"crosses \['init'\]; name two or three of"),
        ("conditions={}", r"has no conditions; add tables such as \[conditions.bp\]"),
        ("only=['fb']", r"'only' names 'fb'; did you mean 'fa'"),
        ("base.seeds.init=1", r"'seeds' is not a key of a study's base"),
    ],
)
def test_a_declaration_that_makes_no_study_is_refused(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        declared(override)


def test_files_and_profiles_that_are_not_there_are_named(tmp_path) -> None:
    assert "no study" in refused_path(tmp_path / "none.toml")
    assert "has no profile 'cii'; did you mean 'ci'?" in refused(
        TEXT + "[profiles.ci]\n", tmp_path, profile="cii"
    )
    assert "lacks" not in refused("name = 'x'\n", tmp_path)
    assert "missing required field" in refused("name = 'x'\n", tmp_path)
    assert "is not TOML" in refused("name = \n", tmp_path)
    with pytest.raises(InputError, match=r"no study 'dmo': fadiag has .*demo.*, and the name of a file"):
        find_study("dmo")
    assert find_study(str(tmp_path / "a.toml")) == tmp_path / "a.toml"


def refused_path(path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_study(path)
    return str(caught.value)


@pytest.mark.parametrize("name", shipped_studies())
def test_every_shipped_study_can_be_read(name: str) -> None:
    study = load_study(find_study(name))
    assert study.runs(study.conditions)
    if study.search is not None:
        assert not set(study.search.seeds) & set(study.seeds.reported)


def test_the_demonstration_declares_what_it_asks() -> None:
    demo = load_study(find_study("demo"))
    assert list(demo.conditions) == ["bp", "fa", "fa+bn", "fa+muon", "fa+muon+bn", "frozen"]
    assert demo.conditions["frozen"].control
    assert len(demo.seed_tables()) == 3
    assert {one.config.record.redraws for one in demo.conditions.values()} == {99}
    tuned = load_study(find_study("demo"), profile="tune")
    assert tuned.search is not None
    assert not set(tuned.search.seeds) & set(demo.seeds.reported)
    rates = [one.config.optimizer.learning_rate for one in demo.conditions.values()]
    assert set(rates) <= set(tuned.search.rates or ())
    for data in ("fashion-mnist", "cifar10"):
        study = load_study(find_study("demo"), profile=data, overrides=["base.data.folder=/x"])
        assert {one.config.data.name for one in study.conditions.values()} == {data}
        assert {one.config.data.folder for one in study.conditions.values()} == {"/x"}


def test_a_condition_may_be_compared_with_another_than_the_primary_baseline() -> None:
    more = '[conditions.x]\nrule = "fa"\nagainst = "z"\n[conditions.y]\nrule = "fa"\n[conditions.z]\n'
    study = declared(more=more)
    treated, baseline = study.primary.contrast
    of = {name: study.baseline_of(name) for name in (treated, baseline, "x", "y", "z")}
    assert of == {treated: baseline, baseline: None, "x": "z", "y": baseline, "z": None}
    assert study.declaration()["conditions"]["x"]["against"] == "z"
    assert "against" not in study.declaration()["conditions"]["y"]


def test_an_unknown_condition_to_compare_with_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"condition 'x': 'against' names 'bq'; did you mean 'bp'"):
        declared(more='[conditions.x]\nagainst = "bq"\n')
