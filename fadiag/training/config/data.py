"""Define the keys of the table ``[data]``: the images, and how they are changed."""

from typing import Literal

import msgspec

from fadiag.training.config.bounds import Count, Share

__all__ = ["DataConfig"]


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The data.

    Attributes
    ----------
    name : str
        A name in `fadiag.training.DATASETS`, or "given" for what ``train(data=...)`` gets.
    folder : str
        Where the files are; the digits come with the package.
    train_samples, test_samples : int, optional
        Take only the first ones; all by default.
    held_out : {"test", "validation"}
        The samples that accuracy and probe are measured on. The log names the accuracy after them. For
        tuning, "validation" takes the last fifth of the training samples and leaves the test samples alone.
    augment : bool
        Shift each training image by up to 4 pixels, with black at the edges, and mirror half of them.
    label_noise : float
        The share of training labels that are replaced by another class, drawn at random.
    smoothing : float
        Label smoothing: the share of each target that is spread over all classes.

    Examples
    --------
    >>> DataConfig(train_samples=500).name
    'digits'
    """

    name: str = "digits"
    folder: str | None = None
    train_samples: Count | None = None
    test_samples: Count | None = None
    held_out: Literal["test", "validation"] = "test"
    augment: bool = False
    label_noise: Share = 0.0
    smoothing: Share = 0.0
