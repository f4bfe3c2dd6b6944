"""Read of a data set what an address and a network's shape depend on."""

from dataclasses import dataclass
from functools import cache

from fadiag.paths import absolute_path
from fadiag.training.config import DataConfig
from fadiag.training.datasets import read_images

__all__ = ["DataFacts", "data_facts"]


@dataclass(frozen=True)
class DataFacts:
    """The hash of what a run reads, the shape of an image, and the numbers of classes and of images.

    Examples
    --------
    >>> DataFacts("f3d6", (1, 8, 8), 10, 60, 40).classes
    10
    """

    sha256: str
    shape: tuple[int, ...]
    classes: int
    train_samples: int
    held_out_samples: int


def data_facts(config: DataConfig) -> DataFacts:
    """Return the facts of a data set; the hash is the one that the run's store has as ``data_sha256``.

    Raises
    ------
    InputError
        A file is missing or damaged.

    Examples
    --------
    >>> data_facts(DataConfig(name="digits")).shape
    (1, 8, 8)
    """
    folder = None if config.folder is None else str(absolute_path(config.folder))
    return _facts(config.name, folder, config.train_samples, config.test_samples, config.held_out)


@cache
def _facts(name: str, folder: str | None, train: int | None, test: int | None, held_out: str) -> DataFacts:
    images = read_images(name, None if folder is None else absolute_path(folder)).head(train, test)
    if held_out == "validation":
        images = images.with_validation()
    counts = len(images.train_labels), len(images.test_labels)
    return DataFacts(images.fingerprint, images.train_images.shape[1:], images.classes, *counts)
