"""Find out whether layers form a chain, for metrics that read the layer above or below.

A store does not record which layer feeds which. Layers count as a chain only if their weights are matrices
whose shapes fit from the first layer to the last, and if every signal is one vector per sample. A skip
connection is not detected. There is no chain if the recorder left layers out, if layers saw different
samples, or if a weight is stored as (in, out).
"""

from itertools import pairwise

from fadiag.analysis.plan.runs import Run, Stream

__all__ = ["chain_of"]


def chain_of(run: Run, stream: Stream) -> tuple[str, ...]:
    """Return the layers from first to last if they are a chain of matrices, else an empty tuple."""
    names = tuple(stream.layers)
    if not _is_whole(stream) or stream.own_rows:
        return ()
    state = next((s for s in run.streams.values() if s.kind == "state"), None)
    shapes = []
    for name in names:
        own = {} if state is None else state.layers.get(name, {})
        weight = own.get("weight", run.static.get(name, {}).get("weight_init"))
        if weight is None:
            return ()
        shape = weight.shape[1:] if "step" in weight.dims else weight.shape
        if len(shape) != 2 or weight.dims[-2:] == ("in", "out"):  # an embedding, or stored transposed
            return ()
        if any("sample" in a.dims and a.ndim > 3 for a in stream.layers[name].values()):
            return ()
        shapes.append(shape)
    fits = all(above[1] == below[0] for below, above in pairwise(shapes))
    return names if fits else ()


def _is_whole(stream: Stream) -> bool:
    """Return whether all layers were recorded; True if the store does not say how many there are."""
    attrs = stream.layer_attrs.values()
    count = max((int(a.get("layers_in_model", 0)) for a in attrs), default=0)
    return count <= len(stream.layers)
