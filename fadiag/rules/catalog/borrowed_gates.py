"""Define backpropagation through another network's gates, an intervention.

A network learns by backpropagation, but at each activation function the backward pass uses the derivative at
the pre-activation of a twin network for the same batch. So the gates are the twin's, and the matrices exact.
"""

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fadiag.errors import InputError
from fadiag.rules.catalog.direct import recomputes
from fadiag.rules.layers.gates import GATES, borrow_gate
from fadiag.rules.rule import AlteredModule, Rule

__all__ = ["BORROWED_GATES", "BorrowedGateLayer", "Lender", "lend_gates"]


class Lender:
    """Keep the pre-activations of one gate of the twin, until the model's pass takes them.

    It is a forward pre-hook of the gate. A copy of it is empty.

    Examples
    --------
    >>> lender = Lender()
    >>> lender(nn.ReLU(), (torch.ones(2),))
    >>> lender.lent
    deque([tensor([1., 1.])])
    """

    def __init__(self) -> None:
        self.lent: deque[Tensor] = deque()

    def __call__(self, gate: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Keep the pre-activation of a call; in a copy, because the gate may work in place."""
        if not recomputes():
            self.lent.append(inputs[0].detach().clone())

    def __reduce__(self) -> tuple[type["Lender"], tuple[()]]:
        """Copy the lender without its tensors."""
        return Lender, ()


class _Start:
    """Empty the lenders when a pass of the twin starts, as a forward pre-hook of the twin."""

    def __init__(self, lenders: list[Lender]) -> None:
        self.lenders = lenders

    def __call__(self, twin: nn.Module, inputs: tuple[Any, ...]) -> None:
        if not recomputes():
            for lender in self.lenders:
                lender.lent.clear()


class BorrowedGateLayer(AlteredModule):
    """Apply a gate whose derivative is that at the twin's pre-activation.

    Attributes
    ----------
    name : str
        The gate's name in both networks.
    """

    name: str
    _lender: Lender
    _kind: str
    _options: tuple[str, ...]

    def borrow_from(self, lender: Lender, name: str) -> None:
        """Set the lender of the twin's pre-activations."""
        self._lender, self.name = lender, name
        kind = next(kind for kind in GATES if isinstance(self, kind))
        self._kind, self._options = kind.__name__, GATES[kind].options

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name for it
        """Apply the gate.

        Raises
        ------
        InputError
            The twin has no pass since the last one of the model, or one of another shape.
        """
        if self._is_exact or not torch.is_grad_enabled():
            if self._lender.lent and not recomputes():
                self._lender.lent.popleft()  # it belongs to this pass, and the next may be of another batch
            plain: Any = super().forward
            return plain(input)  # type: ignore[no-any-return]
        if recomputes():
            raise InputError(
                f"gate {self.name!r} runs again inside a backward pass, and the twin's pre-activations are "
                "gone; leave out the checkpointing"
            )
        if not self._lender.lent:
            raise InputError(
                f"gate {self.name!r} has no pre-activation of the twin; call the twin on the same batch "
                "before each pass of the model"
            )
        lent = self._lender.lent.popleft()
        if lent.shape != input.shape:
            raise InputError(
                f"gate {self.name!r} has a pre-activation of shape {tuple(input.shape)}, and the twin's is "
                f"{tuple(lent.shape)}; call the twin on the same batch before each pass of the model"
            )
        return borrow_gate(self._kind, input, lent, *[getattr(self, option) for option in self._options])


def lend_gates(twin: nn.Module, gates: Mapping[str, nn.Module]) -> dict[str, Lender]:
    """Attach a lender to each gate of the twin, and return the lenders by name."""
    lenders = {name: Lender() for name in gates}
    twin.register_forward_pre_hook(_Start([*lenders.values()]))
    for name, gate in gates.items():
        gate.register_forward_pre_hook(lenders[name])
    return lenders


BORROWED_GATES = Rule("borrowed_gates", BorrowedGateLayer)
