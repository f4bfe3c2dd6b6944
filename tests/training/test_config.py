"""Configurations: what is read, and one clear error for everything that does not fit."""

from pathlib import Path

import pytest
import torch

from fadiag.errors import ConfigError
from fadiag.training import Config, OptimizerConfig, load_config, make_config

EXAMPLE = """
rule = "fa"
[train]
epochs = 3
[model]
hidden = [16, 8]
norm = "batch"
[optimizer]
name = "muon"
learning_rate = 1
"""


def test_reads_toml_and_keeps_defaults(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(EXAMPLE)
    config = load_config(path, ["seeds.init=7", "data.name=cifar10", "data.folder=/a b", "model.hidden=[4]"])
    assert (config.train.epochs, config.model.hidden, config.optimizer.learning_rate) == (3, (4,), 1.0)
    assert (config.seeds.init, config.data.name, config.data.folder) == (7, "cifar10", "/a b")
    assert config.train.batch_size == Config().train.batch_size
    assert config.label == "fa+muon+bn"


def test_the_largest_seed_is_taken() -> None:
    largest = make_config({"seeds": {"init": 2**63 - 1}}).seeds.init
    assert torch.Generator().manual_seed(largest).initial_seed() == largest


def test_an_empty_table_is_the_defaults() -> None:
    assert make_config({}) == Config()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"rul": "fa"}, "c.toml: unknown key 'rul'; did you mean 'rule'?"),
        ({"train": {"epoch": 3}}, "c.toml: unknown key 'train.epoch'; did you mean 'train.epochs'?"),
        (
            {"optimizer": {"rest": {"learning_rte": 0.1}}},
            "c.toml: unknown key 'optimizer.rest.learning_rte'; did you mean 'optimizer.rest.learning_rate'",
        ),
        (
            {"record": {"live": {"evry": 3}}},
            "c.toml: unknown key 'record.live.evry'; did you mean 'record.live.every'",
        ),
        (
            {"record": {"every": "often"}},
            "'record.every' is 'often': expected `int | table | list`, got `str`",
        ),
        (
            {"record": {"every": {"per_decad": 3}}},
            "c.toml: unknown key 'record.every.per_decad'; did you mean 'record.every.per_decade'",
        ),
        (
            {"record": {"every": {"per_decade": 0}}},
            "'record.every.per_decade' is 0: expected `int` >= 1",
        ),
        (
            {"record": {"live": {"rows": {"m": 3}}}},
            "c.toml: unknown key 'record.live.rows.m'; there are 'record.live.rows.n', ",
        ),
        (
            {"record": {"live": {"unfolding": "chanels"}}},
            "'record.live.unfolding' is 'chanels'; did you",
        ),
        (
            {"model": {"name": "resnet19"}},
            "'model.name' is 'resnet19'; did you mean 'resnet18' or",
        ),
        (
            {"optimizer": {"top_k": 3}},
            "c.toml: in 'optimizer', top_k needs orthogonalization 'polar', which finds single directions",
        ),
        (
            {"train": {"batch_size": 10, "accumulate": 3}},
            "c.toml: in 'train', batch_size 10 has no 3 equal parts (accumulate)",
        ),
        ({"data": {"label_noise": 1.0}}, "c.toml: 'data.label_noise' is 1.0: expected `float` < 1.0"),
        (
            {"optimizer": {"learning_rte": 0.1}},
            "c.toml: unknown key 'optimizer.learning_rte'; did you mean 'optimizer.learning_rate'",
        ),
        (
            {"seeds": {"zzz": 1}},
            "c.toml: unknown key 'seeds.zzz'; there are 'seeds.init', 'seeds.data', 'seeds.feedback'",
        ),
        ({"train": {"epochs": "many"}}, "c.toml: 'train.epochs' is 'many': expected `int`, got `str`"),
        ({"train": {"epochs": 2.5}}, "c.toml: 'train.epochs' is 2.5: expected `int`, got `float`"),
        ({"train": {"epochs": 0}}, "c.toml: 'train.epochs' is 0: expected `int` >= 1"),
        ({"train": {"epochs": True}}, "c.toml: 'train.epochs' is True: expected `int`, got `bool`"),
        (
            {"optimizer": {"learning_rate": -1.0}},
            "c.toml: 'optimizer.learning_rate' is -1.0: expected `float` > 0",
        ),
        (
            {"optimizer": {"learning_rate": float("nan")}},
            "'optimizer.learning_rate' is nan: expected `float` > 0",
        ),
        (
            {"optimizer": {"learning_rate": float("inf")}},
            "'optimizer.learning_rate' is inf: expected `float` <= 1000000.0",
        ),
        ({"optimizer": {"name": "moun"}}, "c.toml: 'optimizer.name' is 'moun'; did you mean 'muon'?"),
        (
            {"model": {"norm": "xyz"}},
            "'model.norm' is 'xyz'; there are 'none', 'batch', 'layer', 'group'",
        ),
        ({"model": {"hidden": [8, 0]}}, "c.toml: 'model.hidden[1]' is [8, 0]: expected `int` >= 1"),
        ({"model": {"hidden": []}}, "c.toml: 'model.hidden' is []: expected `list` of length >= 1"),
        (
            {"seeds": {"init": 2**63}},
            "c.toml: 'seeds.init' is 9223372036854775808: expected `int` <= 9223372036854775807",
        ),
        ({"seeds": {"data": 2**70}}, "c.toml: 'seeds.data' is 1180591620717411303424: "),
        ({"model": 3}, "c.toml: 'model' is 3: expected `table`, got `int`"),
        ({"rule": "faa"}, "c.toml: 'rule' is 'faa'; did you mean 'fa'"),
        (
            {"data": {"name": "fashion_mnist"}},
            "'data.name' is 'fashion_mnist'; did you mean 'fashion-mnist'?",
        ),
    ],
)
def test_what_does_not_fit_is_named_with_its_value_and_the_near_ones(table: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(table, source="c.toml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "override 'epochs' is not key=value, as in optimizer.learning_rate=0.1"),
        ("=3", "override '=3' is not key=value"),
        ("rule.x=3", "override 'rule.x=3': 'rule' is a value, not a table"),
        ("optimizer.lr=3", "unknown key 'optimizer.lr'; did you mean 'optimizer.layers'"),
        ("train.epochs=ten", "'train.epochs' is 'ten': expected `int`, got `str`"),
    ],
)
def test_overrides_that_do_not_fit(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config({"rule": "fa"}, [override])
    assert message in str(caught.value)


def test_overrides_leave_the_table_as_it_was() -> None:
    table = {"optimizer": {"name": "sgd"}}
    make_config(table, ["optimizer.name=muon"])
    assert table == {"optimizer": {"name": "sgd"}}


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration .*nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)
    broken = tmp_path / "broken.toml"
    broken.write_text("epochs = = 3")
    with pytest.raises(ConfigError, match=r"broken\.toml is not TOML: .*line 1"):
        load_config(broken)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(broken)


def test_labels_name_the_condition() -> None:
    assert Config(rule="bp").label == "bp"
    assert Config(rule="frozen", optimizer=OptimizerConfig()).label == "frozen"
    assert Config(condition="mine").label == "mine"
    assert make_config({"model": {"norm": "layer"}, "optimizer": {"name": "adam"}}).label == "fa+adam+ln"


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parents[2].glob("analyses/configs/*.toml")), ids=lambda p: p.stem
)
def test_example_configurations_load(path: Path) -> None:
    assert load_config(path).train.epochs >= 1
