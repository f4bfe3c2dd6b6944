"""Test the names and kinds of torch's operations, and which operations only describe a tensor."""

import pytest
import torch
from torch.overrides import TorchFunctionMode

from fadiag.capture.tracing.op_kinds import is_metadata_query, kind_of, name_of


class Seen(TorchFunctionMode):
    """The functions that were called inside."""

    def __init__(self):
        super().__init__()
        self.functions = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.functions.append(func)
        return func(*args, **(kwargs or {}))


def seen(call):
    x = torch.ones(2, 3)
    with Seen() as mode:
        call(x)
    (function,) = mode.functions
    return function


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.dtype,
        lambda x: x.shape,
        lambda x: x.size(0),
        lambda x: x.dim(),
        lambda x: x.device,
        lambda x: x.requires_grad,
    ],
)
def test_what_only_describes_a_tensor(call):
    assert is_metadata_query(seen(call))


@pytest.mark.parametrize(
    ("call", "name", "kind"),
    [
        (lambda x: x.T, "T", "pass"),
        (lambda x: x.relu(), "relu", "gate"),
        (torch.relu_, "relu", "gate"),
        (lambda x: x + 1, "add", "join"),
        (lambda x: x.data, "data", "unclear"),
        (lambda x: x.requires_grad_(False), "requires_grad", "pass"),
    ],
)
def test_what_makes_a_tensor_does_more(call, name, kind):
    function = seen(call)
    assert not is_metadata_query(function)
    assert (name_of(function), kind_of(name)) == (name, kind)
