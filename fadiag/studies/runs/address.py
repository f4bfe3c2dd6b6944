"""Compute the address of a run in the pool from all that its numbers depend on."""

import hashlib
from functools import cache

import msgspec

from fadiag.paths import absolute_path
from fadiag.training import TRAINER_VERSION, Config
from fadiag.training.config import DataConfig
from fadiag.training.datasets import read_images

__all__ = ["address_of", "data_hash"]

#: The first hex digits of the hash that name a run's folder: 64 bits.
_DIGITS = 16


def address_of(config: Config, data_sha256: str) -> str:
    """Return the address of a run: the first 16 hex digits of the SHA-256 of a canonical JSON.

    The JSON holds the trainer's version, the hash of the data, and the configuration without what changes no
    number: the name of the condition, the folder of the data, and the steps between checkpoints.

    Parameters
    ----------
    config : Config
        With the run's seeds.
    data_sha256 : str
        From `data_hash`.

    Examples
    --------
    >>> address_of(Config(condition="a"), "") == address_of(Config(condition="b"), "")
    True
    >>> address_of(Config(rule="bp"), "") == address_of(Config(rule="fa"), "")
    False
    """
    table = msgspec.to_builtins(config)
    del table["condition"], table["data"]["folder"], table["train"]["checkpoint_every"]
    described = {"config": table, "data": data_sha256, "trainer": TRAINER_VERSION}
    return hashlib.sha256(msgspec.json.encode(described, order="deterministic")).hexdigest()[:_DIGITS]


def data_hash(config: DataConfig) -> str:
    """Return the SHA-256 of the images and labels that a run reads, as its store's ``data_sha256`` has it.

    Raises
    ------
    InputError
        A file is missing or damaged.

    Examples
    --------
    >>> data_hash(DataConfig(name="digits"))[:8]
    'f3d6d7a5'
    """
    folder = None if config.folder is None else str(absolute_path(config.folder))
    return _hash(config.name, folder, config.train_samples, config.test_samples, config.held_out)


@cache
def _hash(name: str, folder: str | None, train: int | None, test: int | None, held_out: str) -> str:
    images = read_images(name, None if folder is None else absolute_path(folder)).head(train, test)
    return (images.with_validation() if held_out == "validation" else images).fingerprint
