"""CIFAR-10 in its official binary layout."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.training.datasets.folder import need_folder, read_bytes
from fadiag.training.datasets.images import Images

__all__ = ["parse_cifar10", "read_cifar10"]

_SOURCE = "https://www.cs.toronto.edu/~kriz/cifar.html (the binary version)"
_SHAPE = (3, 32, 32)
_ROW = 1 + 3 * 32 * 32


def parse_cifar10(content: bytes, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read one batch file: rows of a label byte and 3 x 32 x 32 pixel bytes, channel first.

    Parameters
    ----------
    content : bytes
    name : str
        The file's name, for messages.

    Returns
    -------
    images : array of uint8, shape (sample, 3, 32, 32)
    labels : array of uint8, shape (sample,)

    Raises
    ------
    InputError
        The file is not a whole number of rows, or has a label above 9.
    """
    if not content or len(content) % _ROW:
        raise InputError(
            f"{name} is damaged: {len(content):,} bytes are not whole rows of {_ROW:,}; fetch it again"
        )
    rows = np.frombuffer(content, np.uint8).reshape(-1, _ROW)
    labels = rows[:, 0]
    if labels.max() > 9:
        raise InputError(
            f"{name} is not CIFAR-10: image {int(labels.argmax())} has label {labels.max()}, above 9"
        )
    return rows[:, 1:].reshape(-1, *_SHAPE), labels


def read_cifar10(folder: Path | None) -> Images:
    """Read CIFAR-10: 50,000 and 10,000 color images of 32 x 32 in 10 classes (Krizhevsky, 2009).

    The folder is the one with the ``.bin`` files, or the one that holds ``cifar-10-batches-bin``.
    """
    folder = need_folder(folder, "CIFAR-10", _SOURCE)
    if (folder / "cifar-10-batches-bin").is_dir():
        folder /= "cifar-10-batches-bin"

    def read(name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return parse_cifar10(read_bytes(folder, name, "CIFAR-10"), str(folder / name))

    train = [read(f"data_batch_{number}.bin") for number in range(1, 6)]
    test_images, test_labels = read("test_batch.bin")
    return Images(
        "cifar10",
        np.concatenate([images for images, _ in train]),
        np.concatenate([labels for _, labels in train]),
        test_images,
        test_labels,
        classes=10,
    )
