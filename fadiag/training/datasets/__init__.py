"""The image data sets of the reference trainer: one comes with the package, the user has the others."""

from pathlib import Path

from fadiag.training.datasets.cifar10 import parse_cifar10, read_cifar10
from fadiag.training.datasets.digits import read_digits
from fadiag.training.datasets.idx import parse_idx, read_fashion_mnist
from fadiag.training.datasets.images import Images

__all__ = [
    "Images",
    "parse_cifar10",
    "parse_idx",
    "read_cifar10",
    "read_digits",
    "read_fashion_mnist",
    "read_images",
]


def read_images(name: str, folder: Path | None) -> Images:
    """Read a data set by its name in a configuration: "digits", "fashion-mnist" or "cifar10".

    Only the digits need no folder.
    """
    match name:
        case "digits":
            return read_digits()
        case "fashion-mnist":
            return read_fashion_mnist(folder)
        case "cifar10":
            return read_cifar10(folder)
        case _:
            raise ValueError(f"no data set {name!r}")  # the configuration allows no other
