"""Test that the check of error_bp works on a GPU with TF32 convolutions."""

import contextlib
import itertools

import pytest
import torch
from torch import nn

from fadiag.capture.passes.tf32 import without_tf32
from tests.capture.checks.test_error_check import verdicts

SWITCHES = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)


def as_tf32(x):
    """Round to the 11 bits of TF32, with autograd passing through."""
    bits = x.detach().contiguous().view(torch.int32)
    rounded = ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
    return x + (rounded - x).detach()


@pytest.fixture
def rounding(monkeypatch):
    """Let convolutions round on the CPU as they do on a GPU by default."""
    conv = torch.backends.cudnn.conv
    kept, conv.fp32_precision = conv.fp32_precision, "tf32"
    forward, rounded = nn.Conv2d._conv_forward, itertools.count()

    def convolve(self, x, weight, bias):
        if torch.backends.cudnn.conv.fp32_precision == "tf32":
            next(rounded)
            x, weight = as_tf32(x), as_tf32(weight)
        return forward(self, x, weight, bias)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", convolve)
    yield rounded
    conv.fp32_precision = kept


def deep():
    torch.manual_seed(0)
    widths = itertools.pairwise((3, *[16] * 8))
    body = [m for i, o in widths for m in (nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))


def test_right_errors_pass_where_convolutions_are_rounded(device, rounding):
    generator = torch.Generator().manual_seed(5)
    batch = torch.randn(64, 3, 8, 8, generator=generator), torch.randint(3, (64,), generator=generator)
    assert set(verdicts(deep().to(device), batch=batch).values()) == {"passed"}
    assert next(rounding) > 0  # those of the errors themselves


def states():
    return [switch.fp32_precision for switch in SWITCHES]


@pytest.mark.parametrize("older", ["highest", "high", "medium"])
def test_the_users_switches_are_put_back(older):
    kept = states()
    try:
        torch.set_float32_matmul_precision(older)
        before = [*states(), torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32]
        with contextlib.suppress(KeyError), without_tf32():
            assert states() == ["ieee"] * 3
            assert not torch.backends.cuda.matmul.allow_tf32  # it raises if both switches differ
            raise KeyError
        after = [*states(), torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32]
        assert after == before
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.fp32_precision = kept[2]


def test_a_switch_that_only_the_newer_interface_knows_is_put_back():
    kept = states()
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with without_tf32():
            assert states() == ["ieee"] * 3
        assert states() == [*kept[:2], "tf32"]
    finally:
        torch.backends.cuda.matmul.fp32_precision = kept[2]
