"""The oracle of the rules: feedback by autograd alone, without an autograd function."""

import copy
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fadiag.rules import RULES, DirectLayer, targets


class Straight(nn.Module):
    """A layer with its own value and weight gradient, and the input gradient that ``feedback`` gives.

    The value comes from the detached input, the gradient from a pass with ``feedback`` whose value cancels.
    """

    def __init__(self, layer: nn.Module, feedback: Tensor) -> None:
        super().__init__()
        self.layer = layer
        through = copy.deepcopy(layer).requires_grad_(False)
        through.weight.copy_(feedback)
        self.through = [through]  # in a list, so that its weights are no parameters of the oracle

    def forward(self, x: Tensor) -> Tensor:
        z = self.through[0](x)
        return self.layer(x.detach()) + (z - z.detach())


def plain(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """Return a copy of a converted layer as torch's own ``kind``."""
    copied = copy.deepcopy(layer)
    copied._buffers.clear()
    copied._parameters.pop("feedback", None)
    copied.__class__ = kind
    return copied


@torch.no_grad()
def difference(got: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Return the largest difference of two sets of gradients."""
    assert got.keys() == expected.keys()
    return max(float((got[name] - expected[name]).abs().max()) for name in expected)


#: The rules whose layers have feedback in the weight's place, and those with feedback from the outputs.
LAYERWISE = [rule.name for rule in RULES if rule.layer is not None and rule.layer.replaces_weight]
DIRECT = [rule.name for rule in RULES if rule.layer is not None and issubclass(rule.layer, DirectLayer)]


def learning(model: nn.Module, y: Tensor, scale: float | None = None) -> AbstractContextManager[None]:
    """Return the context in which a model learns the targets, whatever its rule."""
    is_drtp = any(getattr(module, "rule", "") == "drtp" for module in model.modules())
    return targets(model, y, scale) if is_drtp else nullcontext()


def direct_gradients(model: nn.Sequential, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a model under a direct rule, by a surrogate loss without an autograd function.

    Each layer takes its input detached. The surrogate adds, for each input, its product with the credit.
    """
    x = x.clone().requires_grad_()
    h, inputs = x, []
    for module in model:
        if isinstance(module, DirectLayer):
            inputs.append((h, module.feedback))
            kind = next(kind for kind in (nn.Linear, nn.Conv1d, nn.Conv2d) if isinstance(module, kind))
            h = kind.forward(plain_view(module, kind), h.detach())
        else:
            h = module(h)
    loss = cross_entropy(h, y)
    (delta,) = torch.autograd.grad(loss, h, retain_graph=True)
    if any(getattr(module, "rule", "") == "drtp" for module in model):
        delta = -torch.eye(h.shape[1], dtype=h.dtype, device=h.device)[y] / len(y)
    surrogate = loss + sum((h * (delta @ f.flatten(1)).reshape(h.shape)).sum() for h, f in inputs)
    named = {name: p for name, p in model.named_parameters() if p.requires_grad} | {"input": x}
    return dict(zip(named, torch.autograd.grad(surrogate, [*named.values()]), strict=True))


def plain_view(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """Return torch's own ``kind`` with the very parameters of a converted layer."""
    own = copy.copy(layer)
    own.__class__ = kind
    return own
