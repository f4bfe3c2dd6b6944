"""Read CIFAR-10 and CIFAR-100 in their official binary layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.training.datasets.folder import need_folder, read_bytes
from fadiag.training.datasets.images import Images

__all__ = ["CIFAR10", "CIFAR100", "Layout", "parse_cifar", "read_cifar10", "read_cifar100"]

_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html (the binary version)"
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """The files of one of the two sets.

    Attributes
    ----------
    name, title, folder : str
    train, test : sequence of str
    rows : int
        The number of rows in a training file; a test file has 10,000.
    label_bytes : int
        The number of label bytes before the pixels; the last of them is the class.
    classes : int
    """

    name: str
    title: str
    folder: str
    train: Sequence[str]
    test: str
    rows: int
    label_bytes: int
    classes: int


CIFAR10 = Layout(
    "cifar10",
    "CIFAR-10",
    "cifar-10-batches-bin",
    tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test_batch.bin",
    10_000,
    1,
    10,
)
CIFAR100 = Layout("cifar100", "CIFAR-100", "cifar-100-binary", ("train.bin",), "test.bin", 50_000, 2, 100)


def parse_cifar(
    content: bytes, rows: int, layout: Layout, name: str
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read one file: rows of label bytes and 3 x 32 x 32 pixel bytes, channel first.

    Parameters
    ----------
    content : bytes
    rows : int
        How many rows the file must have.
    layout : Layout
    name : str
        The file's name, for messages.

    Returns
    -------
    images : array of uint8, shape (sample, 3, 32, 32)
    labels : array of uint8, shape (sample,)

    Raises
    ------
    InputError
        The file has another size, or a label that is no class.
    """
    width = layout.label_bytes + _PIXELS
    if len(content) != rows * width:
        raise InputError(
            f"{name} is damaged: it has {len(content):,} bytes, and {rows:,} rows of {width:,} are "
            f"{rows * width:,}; fetch it again"
        )
    table = np.frombuffer(content, np.uint8).reshape(rows, width)
    labels = table[:, layout.label_bytes - 1]
    if labels.max() >= layout.classes:
        raise InputError(
            f"{name} is not {layout.title}: image {int(labels.argmax())} has label {labels.max()}, above "
            f"{layout.classes - 1}"
        )
    return table[:, layout.label_bytes :].reshape(-1, *_SHAPE), labels


def read_cifar10(folder: Path | None) -> Images:
    """Read CIFAR-10: 50,000 and 10,000 color images of 32 x 32 in 10 classes (Krizhevsky, 2009).

    The folder is the one with the ``.bin`` files, or the one that holds ``cifar-10-batches-bin``.
    """
    return _read(folder, CIFAR10)


def read_cifar100(folder: Path | None) -> Images:
    """Read CIFAR-100: as CIFAR-10, in 100 classes (the fine labels).

    The folder is the one with the ``.bin`` files, or the one that holds ``cifar-100-binary``.
    """
    return _read(folder, CIFAR100)


def _read(folder: Path | None, layout: Layout) -> Images:
    folder = need_folder(folder, layout.title, _SOURCE)
    if (folder / layout.folder).is_dir():
        folder /= layout.folder

    def read(name: str, rows: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return parse_cifar(read_bytes(folder, name, layout.title), rows, layout, str(folder / name))

    train = [read(name, layout.rows) for name in layout.train]
    test_images, test_labels = read(layout.test, 10_000)
    return Images(
        layout.name,
        np.concatenate([images for images, _ in train]),
        np.concatenate([labels for _, labels in train]),
        test_images,
        test_labels,
        classes=layout.classes,
    )
