"""From recorded signals to matrices, raw and centered."""

import numpy as np
import pytest

from fadiag.analysis.metrics.unfold import center, unfold
from fadiag.errors import InputError

IMAGE = ("sample", "channel", "height", "width")


def test_unfold_of_an_image():
    x = np.arange(2 * 3 * 4 * 5 * 6.0).reshape(2, 3, 4, 5, 6)
    assert np.array_equal(unfold(x, IMAGE), x.reshape(2, 3, 120))
    channels = unfold(x, IMAGE, "channels")
    assert channels.shape == (2, 90, 4)
    assert np.array_equal(channels[1, 37], x[1, 1, :, 1, 1])  # sample 1, row 1, column 1: 30 + 6 + 1


def test_unfold_of_a_sequence_has_its_channel_last():
    x = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert np.array_equal(unfold(x, ("sample", "position", "out"), "channels"), x.reshape(2, 12, 5))


def test_unfold_of_a_kernel_keeps_its_outputs():
    assert unfold(np.zeros((1, 8, 3, 5, 5)), ("out", "in", "kh", "kw"), "channels").shape == (1, 8, 75)


def test_unfold_drops_padding_of_samples_only():
    assert unfold(np.zeros((1, 8, 3)), ("sample", "out"), rows_valid=5).shape == (1, 5, 3)
    assert unfold(np.zeros((1, 8, 3)), ("out", "in"), rows_valid=5).shape == (1, 8, 3)


def test_unfold_refuses():
    with pytest.raises(InputError, match=r"a signal with the dimensions \('out',\) is no matrix"):
        unfold(np.zeros((1, 3)), ("out",))
    with pytest.raises(InputError, match="unfolding is 'rows'; it must be one of samples, channels"):
        unfold(np.zeros((1, 3, 3)), ("out", "in"), "rows")


def test_centring_a_factor_drops_its_first_row():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 4)) + 3
    factor = np.linalg.qr(np.column_stack([np.ones(50), x]))[1][None, :, 1:]
    assert np.allclose(
        np.linalg.svd(center(factor, factor=True)[0])[1],
        np.linalg.svd(center(x[None])[0], full_matrices=False)[1],
    )


def test_equal_rows_are_nothing_once_centered():
    constant = np.full((1, 7, 3), 0.1, np.float32)
    assert not center(constant).any()


def test_one_sample_is_its_own_mean():
    assert not center(np.ones((2, 1, 3)), factor=True).any()
