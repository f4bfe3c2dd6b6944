"""Read the idx files of MNIST and Fashion-MNIST."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fadiag.errors import InputError
from fadiag.training.datasets.folder import need_folder, read_bytes
from fadiag.training.datasets.images import Images

__all__ = ["parse_idx", "read_fashion_mnist"]

_SOURCE = "Debian's package dataset-fashion-mnist (/usr/share/datasets/fashion-mnist)"
_UNSIGNED_BYTE = 0x08


def parse_idx(content: bytes, dimensions: int, name: str) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes.

    The format: two zero bytes, a type byte (8 for unsigned bytes), the number of dimensions, each size as a
    big-endian 32-bit integer, the data.

    Parameters
    ----------
    content : bytes
    dimensions : int
        The number of dimensions that the file must have.
    name : str
        The file's name, for messages.

    Raises
    ------
    InputError
        The format or the number of dimensions differs, or the data do not fill the sizes in the header.

    Examples
    --------
    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 3, 7, 8, 9]), 1, "labels")
    array([7, 8, 9], dtype=uint8)
    """
    header = 4 + 4 * dimensions
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != expected:
        raise InputError(
            f"{name} is not an idx file of unsigned bytes with {dimensions} dimension(s): "
            f"it begins with {content[:4].hex(' ') or 'nothing'}, not {expected.hex(' ')}"
        )
    if len(content) < header:
        raise InputError(f"{name} is damaged: it ends within its header, after {len(content)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", dimensions, offset=4))
    if len(content) - header != math.prod(shape):
        raise InputError(
            f"{name} is damaged: its header announces {math.prod(shape):,} values ({shape}), "
            f"it holds {len(content) - header:,}; fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def read_fashion_mnist(folder: Path | None) -> Images:
    """Read Fashion-MNIST (or MNIST, whose files have the same names), gzipped or not.

    60,000 and 10,000 images of 28 x 28 in 10 classes: Xiao, Rasul, Vollgraf, arXiv 1708.07747, 2017.
    """
    folder = need_folder(folder, "Fashion-MNIST", _SOURCE)

    def read(name: str, dimensions: int) -> NDArray[np.uint8]:
        return parse_idx(read_bytes(folder, name, "Fashion-MNIST"), dimensions, str(folder / name))

    return Images(
        "fashion-mnist",
        read("train-images-idx3-ubyte", 3)[:, None],
        read("train-labels-idx1-ubyte", 1),
        read("t10k-images-idx3-ubyte", 3)[:, None],
        read("t10k-labels-idx1-ubyte", 1),
        classes=10,
    )
