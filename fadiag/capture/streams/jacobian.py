"""Compare the backward map of the model's rule with that of exact backpropagation, at each layer.

The cosine of two errors depends on the feedback and on the statistics of the error. The maps from the outputs
to a layer do not depend on the error.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from fadiag.capture.signals.arrays import Array, rows_of
from fadiag.capture.tracing.layer_call import Call

__all__ = ["jacobian_cosines"]


#: The calls of a pass with a retained graph, and the context for another backward pass through that graph.
_Pass = tuple[Sequence[Call], Callable[[], AbstractContextManager[None]]]


def jacobian_cosines(own: _Pass, true: _Pass, vectors: int, generator: torch.Generator) -> dict[str, Array]:
    """Return <J_true, J_own>_F / (|J_true|_F |J_own|_F), the cosine of the two maps, by call and sample.

    J maps gradients at the output of the last recorded layer (the network's outputs) to gradients at the
    output of the layer's gate (h). If there are at most ``vectors`` outputs, J is exact and takes one
    backward pass per output. Otherwise it is applied to ``vectors`` random vectors, for which the inner
    products have the same expectation.

    Parameters
    ----------
    own, true : tuple (sequence of Call, callable)
        The calls of two passes over one batch with retained graphs, and the context of a backward pass.
    vectors : int
        The largest number of backward passes through each graph.
    generator : torch.Generator
        The source of the random vectors.

    Returns
    -------
    mapping of str to array (sample,)
        NaN if one of a sample's two maps is zero. Layers without one row per sample are left out.
    """
    ends = [next(call for call in reversed(calls) if call.a_edge is not None) for calls, _ in (own, true)]
    samples = ends[0].a_shape[0]
    pairs = {
        mine.name: (mine, other)
        for mine, other in zip(own[0], true[0], strict=True)
        if mine is not ends[0] and mine.h_shape[:1] == (samples,)
        if mine.h_edge is not None and other.h_edge is not None
    }
    if not pairs:
        return {}
    sums = {name: np.zeros((3, samples)) for name in pairs}
    for cotangent in _cotangents(ends[0].a_shape, vectors, generator):
        rows = []
        for side, (_, context) in enumerate((own, true)):
            with context():
                rows.append(_pull_back(ends[side], [pair[side] for pair in pairs.values()], cotangent))
        for name, one, two in zip(pairs, *rows, strict=True):
            sums[name] += [(one * two).sum(1), (one * one).sum(1), (two * two).sum(1)]
    found = {}
    for name, (inner, first, second) in sums.items():
        size = np.sqrt(first) * np.sqrt(second)
        found[name] = np.divide(inner, size, out=np.full(samples, np.nan), where=size > 0)
    return found


def _cotangents(shape: torch.Size, vectors: int, generator: torch.Generator) -> Sequence[Tensor]:
    """Return the starting gradients: all unit vectors, or random vectors; all samples have the same."""
    outputs = shape[1:].numel()
    if outputs <= vectors:
        rows = torch.eye(outputs, dtype=torch.float64, device="cpu")
    else:
        rows = torch.randn(
            vectors, outputs, generator=generator, dtype=torch.float64, device=generator.device
        )
    return [row.reshape(shape[1:]).expand(shape) for row in rows]


def _pull_back(end: Call, calls: Sequence[Call], cotangent: Tensor) -> list[Array]:
    """Map a gradient at the outputs back to each call's h; return one row per sample, in float64."""
    edges: list[GradientEdge] = [call.h_edge for call in calls if call.h_edge is not None]
    like = end.values["error"]
    gradients = torch.autograd.grad(
        (end.a_edge,),  # type: ignore[arg-type]
        edges,
        (cotangent.to(like),),
        retain_graph=True,
        allow_unused=True,
    )
    return [np.zeros((len(cotangent), 1)) if row is None else rows_of(row).cpu().numpy() for row in gradients]
