"""Return batches of the built-in images or of the user's own data."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from fadiag.errors import ConfigError, InputError
from fadiag.paths import absolute_path
from fadiag.rules import generator_for
from fadiag.training.config import DataConfig
from fadiag.training.datasets import read_images
from fadiag.training.datasets.augment import noisy_labels, shift_and_mirror

__all__ = ["Given", "RunData", "Samples", "prepare_data"]

#: What a user gives: inputs and class labels, or a map-style data set of such pairs.
Given: TypeAlias = tuple[Tensor, Tensor] | Dataset[Any]


class Samples:
    """Inputs and labels by their indices.

    Parameters
    ----------
    source : (Tensor, Tensor) or Dataset
    device : torch.device
        Where batches are wanted. Tensors are moved there at once.
    indices : sequence of int, optional
        The samples to take; all by default.

    Raises
    ------
    InputError
        It holds nothing, inputs and labels differ in number, or labels are no whole numbers.
    """

    def __init__(self, source: Given, device: torch.device, indices: Sequence[int] | None = None) -> None:
        self._device = device
        self._dataset: Any = None
        self.pair: tuple[Tensor, Tensor] | None = None
        if isinstance(source, (tuple, list)):
            x, y = source
            if len(x) != len(y):
                raise InputError(f"data has {len(x)} inputs and {len(y)} labels")
            if y.is_floating_point() or y.ndim != 1:
                raise InputError(
                    f"data has labels of shape {tuple(y.shape)} and type {y.dtype}; give one class number "
                    "for each input"
                )
            if indices is not None:
                x, y = x[list(indices)], y[list(indices)]
            self.pair = (x.to(device), y.long().to(device))
            self._count = len(y)
        else:
            self._dataset = source if indices is None else torch.utils.data.Subset(source, indices)
            self._count = len(self._dataset)
        if not self._count:
            raise InputError("data is empty; give at least one sample")

    def __len__(self) -> int:
        return self._count

    def take(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs and labels of the samples with these indices."""
        if self.pair is not None:
            x, y = self.pair
            return x[indices.to(self._device)], y[indices.to(self._device)]
        x, y = default_collate([self._dataset[i] for i in indices.tolist()])
        return x.to(self._device), y.to(self._device)


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Attributes
    ----------
    train, held_out : Samples
    held_out_name : {"test", "validation"}
    classes : int or None
        None if a user's data set does not give it.
    fingerprint : str
        SHA-256 of all images and labels as read, or of the tensors given; "" for a user's data set.
    border : Tensor or None
        The value of the border of shifted images; None where images are not augmented.
    """

    train: Samples
    held_out: Samples
    held_out_name: str
    classes: int | None
    fingerprint: str
    border: Tensor | None

    def batch(self, indices: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a training batch, augmented where the configuration asks for it."""
        x, y = self.train.take(indices)
        return (x if self.border is None else shift_and_mirror(x, generator, self.border)), y


def prepare_data(
    config: DataConfig, train: Given | None, test: Given | None, seed: int, device: torch.device
) -> RunData:
    """Read the data that the configuration names, or take what the user gives.

    Parameters
    ----------
    config : DataConfig
    train, test : (Tensor, Tensor) or Dataset, optional
        The user's own. Without ``test`` the last fifth of ``train`` is held out.
    seed : int
        The data seed, for wrong labels.
    device : torch.device

    Raises
    ------
    ConfigError
        The data do not fit the configuration.
    InputError
        A file is missing or damaged, or the given data are empty or of another kind.
    """
    classes: int | None
    if train is None:
        if test is not None:
            raise ConfigError("test is given without data; give both, or neither")
        images = read_images(config.name, None if config.folder is None else absolute_path(config.folder))
        images = images.head(config.train_samples, config.test_samples)
        if config.held_out == "validation":
            images = images.with_validation()
        x, y, test_x, test_y = images.tensors(device)
        samples, rest = Samples((x, y), device), Samples((test_x, test_y), device)
        name, border = config.held_out, images.black
        fingerprint, classes = images.fingerprint, images.classes
    else:
        kept, held_out, name = _split(config, train, test)
        samples = Samples(train, device, kept)
        rest = Samples(train if name == "validation" or test is None else test, device, held_out)
        border = torch.zeros((), device="cpu")
        fingerprint, classes = _fingerprint(train, test), _classes(train, test)
    if config.augment and (samples.pair is None or samples.pair[0].ndim != 4):
        raise ConfigError("data.augment is for images as a tensor (sample, channel, height, width)")
    if config.label_noise:
        if samples.pair is None or classes is None:
            raise ConfigError("data.label_noise is for labels as a tensor; put it into your data set")
        # Its own stream: the order of the epochs begins with the same draw.
        generator = generator_for(seed, "label noise")
        x, y = samples.pair
        samples.pair = (x, noisy_labels(y.cpu(), config.label_noise, classes, generator).to(device))
    return RunData(samples, rest, name, classes, fingerprint, border.to(device) if config.augment else None)


def _split(
    config: DataConfig, train: Given, test: Given | None
) -> tuple[range, range, Literal["test", "validation"]]:
    """Return the indices of the training samples, those held out, and whether they are test or validation."""
    have = {"train": _count(train), "test": 0 if test is None else _count(test)}
    wanted = {"train": config.train_samples, "test": config.test_samples}
    for split, number in wanted.items():
        if number is not None and number > have[split]:
            raise InputError(f"data has {have[split]:,} {split} samples, not the {number:,} asked for")
    count = {split: have[split] if (number := wanted[split]) is None else number for split in have}
    if config.held_out == "test" and test is not None:
        return range(count["train"]), range(count["test"]), "test"
    kept = count["train"] * 4 // 5
    return range(kept), range(kept, count["train"]), "validation"


def _count(given: Given) -> int:
    if isinstance(given, (tuple, list)):
        if len(given) != 2 or not all(isinstance(part, Tensor) for part in given):
            kinds = " and ".join(dict.fromkeys(type(part).__name__ for part in given))
            raise InputError(
                f"data is a {type(given).__name__} of {len(given)} items ({kinds or 'nothing'}); give a pair "
                "of tensors or a map-style data set"
            )
        return len(given[1])
    if not hasattr(given, "__len__") or not hasattr(given, "__getitem__"):
        raise InputError(
            f"data is a {type(given).__name__}, which has no length and no items by index; give a pair of "
            "tensors or a map-style data set"
        )
    return len(given)


def _classes(train: Given, test: Given | None) -> int | None:
    labels = []
    for given in (train, test):
        if isinstance(given, (tuple, list)):
            labels.append(given[1])
        elif given is not None:
            return None
    return 1 + max((int(y.max()) for y in labels if len(y)), default=0)


def _fingerprint(train: Given, test: Given | None) -> str:
    digest = hashlib.sha256()
    for given in (train, test):
        if given is None:
            continue
        if not isinstance(given, (tuple, list)):
            return ""
        for tensor in given:
            digest.update(repr((tuple(tensor.shape), tensor.dtype)).encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
