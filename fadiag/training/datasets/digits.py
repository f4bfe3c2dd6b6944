"""Read the UCI optical digits, which come with the package."""

from importlib.resources import files

import numpy as np

from fadiag.training.datasets.images import Images

__all__ = ["read_digits"]

#: The later images are the test set. In the file's order, most writers occur in only one of the two sets.
TRAIN = 1300


def read_digits() -> Images:
    """Read the included optical digits: 1,797 images of 8 x 8, the first 1,300 for training, 497 for testing.

    References
    ----------
    E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
    https://doi.org/10.24432/C50P49 (CC BY 4.0).

    Examples
    --------
    >>> read_digits().test_images.shape
    (497, 1, 8, 8)
    """
    with (
        files("fadiag.training").joinpath("data/optdigits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        images, labels = archive["images"][:, None], archive["labels"]
    return Images("digits", images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:], classes=10)
