"""Images holds the images and labels of a data set, and standardizes them for training."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fadiag.errors import InputError

__all__ = ["Images"]

_Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Images:
    """Images and labels of a data set, as its files hold them.

    Attributes
    ----------
    name : str
    train_images, test_images : array of uint8, shape (sample, channel, height, width)
    train_labels, test_labels : array of uint8, shape (sample,)
    classes : int
    """

    name: str
    train_images: _Bytes
    train_labels: _Bytes
    test_images: _Bytes
    test_labels: _Bytes
    classes: int

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images, labels = getattr(self, f"{split}_images"), getattr(self, f"{split}_labels")
            if len(images) != len(labels):
                raise InputError(f"{self.name}: {len(images)} {split} images but {len(labels)} labels")
            if len(labels) and labels.max() >= self.classes:
                raise InputError(f"{self.name}: a {split} label is {labels.max()}, of {self.classes} classes")

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all images and labels, so that a run can say what it was trained on."""
        digest = hashlib.sha256()
        for array in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def head(self, train: int | None, test: int | None) -> "Images":
        """Return the first ``train`` and ``test`` samples; None keeps all."""
        for split, wanted in (("train", train), ("test", test)):
            there = len(getattr(self, f"{split}_labels"))
            if wanted is not None and wanted > there:
                raise InputError(f"{self.name} has {there:,} {split} images, not the {wanted:,} asked for")
        return Images(
            self.name,
            self.train_images[:train],
            self.train_labels[:train],
            self.test_images[:test],
            self.test_labels[:test],
            self.classes,
        )

    def with_validation(self) -> "Images":
        """Return the images with the last fifth of the training images as test images."""
        kept = len(self.train_labels) * 4 // 5
        return Images(
            self.name,
            self.train_images[:kept],
            self.train_labels[:kept],
            self.train_images[kept:],
            self.train_labels[kept:],
            self.classes,
        )

    @cached_property
    def _scale(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The mean and standard deviation of each channel over the training set."""
        pixels = self.train_images.astype(np.float64)
        mean = pixels.mean(axis=(0, 2, 3), keepdims=True)
        std = pixels.std(axis=(0, 2, 3), keepdims=True)
        if not np.all(std > 0):
            raise InputError(f"{self.name}: a channel of the training images is constant")
        return mean, std

    @property
    def black(self) -> Tensor:
        """The value of a black pixel in `tensors`, by channel."""
        mean, std = self._scale
        return torch.from_numpy((-mean / std).astype(np.float32))

    def tensors(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return train images, train labels, test images and test labels for training.

        Images are float32, each channel shifted and scaled to mean 0 and variance 1 over the training set.
        """
        mean, std = self._scale

        def images(array: _Bytes) -> Tensor:
            return torch.from_numpy(((array - mean) / std).astype(np.float32)).to(device)

        def labels(array: _Bytes) -> Tensor:
            return torch.from_numpy(array.astype(np.int64)).to(device)

        return (
            images(self.train_images),
            labels(self.train_labels),
            images(self.test_images),
            labels(self.test_labels),
        )
