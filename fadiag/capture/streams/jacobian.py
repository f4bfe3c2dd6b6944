"""How alike a layer's two backward maps are: that of the model's own rule and the true one.

The error's cosine mixes the feedback with the statistics of the error; the maps from the outputs to the layer
do not know the error.
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


#: The calls of a pass whose graph still holds, and what to make another backward pass through it under.
_Pass = tuple[Sequence[Call], Callable[[], AbstractContextManager[None]]]


def jacobian_cosines(own: _Pass, true: _Pass, vectors: int, generator: torch.Generator) -> dict[str, Array]:
    """Return, by call, each sample's <J_true, J_own>_F / (|J_true|_F |J_own|_F).

    J maps what the last recorded layer returned (the outputs) to what leaves the layer's gate (h). With no
    more outputs than ``vectors`` it is exact, one backward pass an output; otherwise that many random output
    vectors stand for the outputs, whose inner products have the same mean.

    Parameters
    ----------
    own, true : tuple (sequence of Call, callable)
        The calls of two passes over one batch, their graphs still there, and the context that a backward
        pass needs.
    vectors : int
        At most that many backward passes of each graph.

    Returns
    -------
    mapping of call name to array (sample,)
        NaN for a sample whose map is all zeros on either side. Layers without one row a sample are left out.
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
        for side, (_, under) in enumerate((own, true)):
            with under():
                rows.append(_pulled(ends[side], [pair[side] for pair in pairs.values()], cotangent))
        for name, one, two in zip(pairs, *rows, strict=True):
            sums[name] += [(one * two).sum(1), (one * one).sum(1), (two * two).sum(1)]
    found = {}
    for name, (inner, first, second) in sums.items():
        size = np.sqrt(first) * np.sqrt(second)
        found[name] = np.divide(inner, size, out=np.full(samples, np.nan), where=size > 0)
    return found


def _cotangents(shape: torch.Size, vectors: int, generator: torch.Generator) -> Sequence[Tensor]:
    """Return what goes in at the outputs of every sample alike: each unit vector, or random vectors."""
    outputs = shape[1:].numel()
    if outputs <= vectors:
        drawn = torch.eye(outputs, dtype=torch.float64)
    else:
        drawn = torch.randn(vectors, outputs, generator=generator, dtype=torch.float64)
    return [vector.reshape(shape[1:]).expand(shape) for vector in drawn]


def _pulled(end: Call, calls: Sequence[Call], cotangent: Tensor) -> list[Array]:
    """Return the cotangent pulled back to each call's h, one row a sample, in float64."""
    edges: list[GradientEdge] = [call.h_edge for call in calls if call.h_edge is not None]
    like = end.values["error"]
    pulled = torch.autograd.grad(
        (end.a_edge,),  # type: ignore[arg-type]
        edges,
        (cotangent.to(like),),
        retain_graph=True,
        allow_unused=True,
    )
    return [np.zeros((len(cotangent), 1)) if row is None else rows_of(row).cpu().numpy() for row in pulled]
