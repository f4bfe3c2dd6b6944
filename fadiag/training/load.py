"""Read a `Config` from a TOML file and overrides, and raise a clear error for a wrong key or value."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fadiag.errors import ConfigError
from fadiag.paths import absolute_path
from fadiag.rules import INTERVENTIONS, RULES
from fadiag.training.config import Config
from fadiag.training.datasets import DATASETS
from fadiag.training.models import MODELS
from fadiag.training.tables import convert_table, copy_table, near_names, read_toml, set_key

__all__ = ["load_config", "make_config"]


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> Config:
    """Read a configuration from a TOML file.

    Parameters
    ----------
    path : str or Path
    overrides : iterable of str
        ``key=value`` with a dotted key (``optimizer.learning_rate=0.1``) and a TOML value or a plain string.

    Returns
    -------
    Config

    Raises
    ------
    ConfigError
        The file is missing or is not TOML, a key is unknown (the error names similar keys), or a value is
        wrong.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "run.toml"
    >>> _ = path.write_text("train.epochs = 5", encoding="utf-8")
    >>> load_config(path, ["rule=bp"]).train.epochs
    5
    """
    path = absolute_path(path)
    return make_config(read_toml(path, "configuration"), overrides, source=str(path))


def make_config(
    table: Mapping[str, Any], overrides: Iterable[str] = (), *, source: str = "configuration"
) -> Config:
    """Make a configuration from a nested table, such as a parsed TOML file.

    Examples
    --------
    >>> make_config({"optimizer": {"name": "muon"}}, ["optimizer.learning_rate=0.1"]).optimizer.learning_rate
    0.1
    >>> make_config({"train": {"epoch": 3}})
    Traceback (most recent call last):
    fadiag.errors.ConfigError: configuration: unknown key 'train.epoch'; did you mean 'train.epochs'?
    """
    merged = copy_table(table)
    for override in overrides:
        set_key(merged, override)
    config = convert_table(merged, Config, source)
    for key, name, names in (
        ("rule", config.rule, [rule.name for rule in (*RULES, *INTERVENTIONS)]),
        ("data.name", config.data.name, DATASETS),
        ("model.name", config.model.name, MODELS),
    ):
        if name not in names:
            raise ConfigError(f"{source}: {key!r} is {name!r}; {near_names(name, '', names)}")
    return config
