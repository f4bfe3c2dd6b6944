"""Read the image data sets of the reference trainer; the digits come with the package."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from fadiag.errors import ConfigError
from fadiag.training.datasets.cifar import read_cifar10, read_cifar100
from fadiag.training.datasets.digits import read_digits
from fadiag.training.datasets.idx import parse_idx, read_fashion_mnist
from fadiag.training.datasets.images import Images

__all__ = [
    "DATASETS",
    "Images",
    "parse_idx",
    "read_cifar10",
    "read_cifar100",
    "read_digits",
    "read_fashion_mnist",
    "read_images",
]

#: The data sets by their names in a configuration. Each reader takes the folder of the files.
DATASETS: Mapping[str, Callable[[Path | None], Images]] = MappingProxyType(
    {
        "digits": lambda folder: read_digits(),
        "fashion-mnist": read_fashion_mnist,
        "cifar10": read_cifar10,
        "cifar100": read_cifar100,
    }
)


def read_images(name: str, folder: Path | None) -> Images:
    """Read a data set by its name in a configuration. Only the digits need no folder.

    Raises
    ------
    ConfigError
        The name is unknown.
    InputError
        A file is missing or damaged.
    """
    if name not in DATASETS:
        raise ConfigError(f"no data set {name!r}; there are {', '.join(DATASETS)}")
    return DATASETS[name](folder)
