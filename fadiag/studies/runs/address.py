"""Compute the address of a run in the pool from all that its numbers depend on."""

import hashlib
from typing import Any

import msgspec

from fadiag.studies.runs.data import data_facts
from fadiag.training import TRAINER_VERSION, Config

__all__ = ["address_of"]

#: The first hex digits of the hash that name a run's folder: 64 bits.
_DIGITS = 16


def address_of(config: Config, device: str = "cpu") -> str:
    """Return the address of a run: the first 16 hex digits of the SHA-256 of a canonical JSON.

    The JSON holds the trainer's version, the hash of the data, and the configuration without what changes no
    number: the name of the condition, the folder of the data, and the steps between checkpoints. It names
    the kind of device, if that is not the CPU, whose numbers are others.

    Parameters
    ----------
    config : Config
        With the run's seeds.
    device : {"cpu", "cuda"}

    Examples
    --------
    >>> address_of(Config(condition="a")) == address_of(Config(condition="b"))
    True
    >>> address_of(Config(rule="bp")) == address_of(Config(rule="fa"))
    False
    >>> address_of(Config(), "cuda") == address_of(Config())
    False
    """
    table = msgspec.to_builtins(config)
    del table["condition"], table["data"]["folder"], table["train"]["checkpoint_every"]
    described: dict[str, Any] = {} if device == "cpu" else {"device": device}
    described |= {"config": table, "data": data_facts(config.data).sha256, "trainer": TRAINER_VERSION}
    return hashlib.sha256(msgspec.json.encode(described, order="deterministic")).hexdigest()[:_DIGITS]
