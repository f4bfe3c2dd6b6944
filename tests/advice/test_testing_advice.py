"""The advice of fadiag.testing."""

import pytest
import torch
from torch import nn

from fadiag import LayerAdapter
from fadiag.testing import check_adapter
from tests.advice.advice import Table
from tests.advice.nets import Own, own_using

ADVICE = Table()


@pytest.mark.parametrize("advice", ADVICE, ids=repr)
def test_advice_works(advice, tmp_path):
    advice.follow(tmp_path)


def _check(types=(Own,), **options):
    torch.manual_seed(0)
    adapter = LayerAdapter(types, lambda m: m.weight, lambda m: m.back, "layerwise", own_using, **options)
    check_adapter(adapter, Own(4, 3), torch.randn(5, 4))


def _drawn(transposed):
    def redraw(module, generator):
        shape = module.weight.T.shape if transposed else module.weight.shape
        return torch.randn(shape, generator=generator)

    return redraw


ADVICE.row(
    "the adapter does not take a {kind}; put its class into types",
    lambda at: _check((nn.Linear,)),
    lambda at: _check((nn.Linear, Own)),
)
ADVICE.row(
    "let it draw a matrix of the weight's shape",
    lambda at: _check(redraw=_drawn(True)),
    lambda at: _check(redraw=_drawn(False)),
)
