"""Define gates whose backward pass uses the derivative at another pre-activation than their own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fadiag.rules.layers.autograd import FeedbackFunction

__all__ = ["GATES", "OTHER_GATES", "Gate", "borrow_gate"]

_aten = torch.ops.aten


@dataclass(frozen=True)
class Gate:
    """A gate: its forward pass, and autograd's own kernel of its backward pass.

    Attributes
    ----------
    forward : callable
        ``forward(z, *options)``.
    backward : callable
        ``backward(gradient, z, *options)``.
    options : tuple of str
        The attributes of the module that hold the options.
    """

    forward: Callable[..., Tensor]
    backward: Callable[..., Tensor]
    options: tuple[str, ...] = ()


#: The gates by the class of their module.
GATES: Mapping[type[nn.Module], Gate] = MappingProxyType(
    {
        nn.ReLU: Gate(functional.relu, lambda g, z: _aten.threshold_backward(g, z, 0)),
        nn.ReLU6: Gate(functional.relu6, lambda g, z: _aten.hardtanh_backward(g, z, 0, 6)),
        nn.Tanh: Gate(torch.tanh, lambda g, z: _aten.tanh_backward(g, z.tanh())),
        nn.Sigmoid: Gate(torch.sigmoid, lambda g, z: _aten.sigmoid_backward(g, z.sigmoid())),
        nn.SiLU: Gate(functional.silu, _aten.silu_backward),
        nn.GELU: Gate(
            lambda z, how: functional.gelu(z, approximate=how),
            lambda g, z, how: _aten.gelu_backward(g, z, approximate=how),
            ("approximate",),
        ),
        nn.LeakyReLU: Gate(
            functional.leaky_relu,
            lambda g, z, slope: _aten.leaky_relu_backward(g, z, slope, False),
            ("negative_slope",),
        ),
        nn.ELU: Gate(
            functional.elu, lambda g, z, alpha: _aten.elu_backward(g, alpha, 1, 1, False, z), ("alpha",)
        ),
        nn.Softplus: Gate(functional.softplus, _aten.softplus_backward, ("beta", "threshold")),
    }
)
#: torch's other activation functions of single units.
OTHER_GATES = (
    nn.CELU,
    nn.GLU,
    nn.Hardshrink,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LogSigmoid,
    nn.Mish,
    nn.PReLU,
    nn.RReLU,
    nn.SELU,
    nn.Softshrink,
    nn.Softsign,
    nn.Tanhshrink,
    nn.Threshold,
)


class _Borrow(FeedbackFunction):
    @classmethod
    def of(cls, kind: type[nn.Module], gate: Gate) -> type["_Borrow"]:
        """Return the function of a gate; in autograd's graph it has the gate's name."""

        def forward(z: Tensor, borrowed: Tensor, *options: Any) -> Tensor:
            return gate.forward(z, *options)

        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
            (borrowed,) = ctx.saved_tensors
            sent = gate.backward(gradients[0], borrowed.to(gradients[0].dtype), *ctx.options)
            return sent, *[None] * (1 + len(ctx.options))

        contents = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        return type(kind.__name__, (cls,), contents)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, borrowed, *ctx.options = inputs
        ctx.save_for_backward(borrowed)


_FUNCTIONS = {kind.__name__: _Borrow.of(kind, gate) for kind, gate in GATES.items()}


def borrow_gate(kind: str, z: Tensor, borrowed: Tensor, *options: Any) -> Tensor:
    """Apply a gate to ``z``; backward, use its derivative at ``borrowed``.

    Parameters
    ----------
    kind : str
        The class name of the gate's module.
    z, borrowed : Tensor
        Pre-activations of the same shape.
    *options
        The gate's options, in the order of `Gate.options`.

    Examples
    --------
    >>> z = torch.tensor([1.0, 1.0], requires_grad=True)
    >>> borrow_gate("ReLU", z, torch.tensor([1.0, -1.0])).sum().backward()
    >>> z.grad
    tensor([1., 0.])
    """
    return cast("Tensor", _FUNCTIONS[kind].apply(z, borrowed, *options))


torch.compiler.allow_in_graph(borrow_gate)  # type: ignore[no-untyped-call]
