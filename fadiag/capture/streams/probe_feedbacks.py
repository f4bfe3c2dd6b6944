"""Check that the matrices in ``Probe(feedbacks=...)`` fit the layers of a model."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from fadiag.capture.layers.recorded_layer import RecordedLayer
from fadiag.errors import InputError
from fadiag.signals import is_free_label

__all__ = ["check_feedbacks"]


def check_feedbacks(
    feedbacks: Mapping[str, Mapping[str, Tensor]], jacobian_vectors: int, layers: Sequence[RecordedLayer]
) -> None:
    """Raise InputError if ``Probe(feedbacks=..., jacobian_vectors=...)`` does not fit the layers."""
    by_name = {layer.name: layer for layer in layers}
    direct = next((layer.name for layer in layers if layer.sender is not None), None)
    if jacobian_vectors and direct is not None:
        raise InputError(
            f"jacobian_vectors is {jacobian_vectors}, and layer {direct!r} gets direct "
            "feedback, so its backward map is F itself; leave it out"
        )
    for label, matrices in feedbacks.items():
        if not label.isidentifier() or not is_free_label(label):
            raise InputError(
                f"feedbacks has the name {label!r}; take an identifier that is not the ending "
                "of a name in fadiag.signals, as bp, post and norm are"
            )
        for name, matrix in matrices.items():
            if name not in by_name:
                raise InputError(
                    f"feedbacks[{label!r}] names the layer {name!r}; recorded are {', '.join(by_name)}"
                )
            layer = by_name[name]
            if layer.sender is None and layer.adapter.is_direct:
                raise InputError(
                    f"feedbacks[{label!r}] names the layer {name!r}, which gets no direct feedback; "
                    "name the layer whose output it credits"
                )
            what = "weight" if layer.sender is None else "direct feedback"
            own = layer.weight if layer.sender is None else layer.sender.feedback
            if matrix.shape != own.shape:
                raise InputError(
                    f"feedbacks[{label!r}][{name!r}] has shape {tuple(matrix.shape)}, "
                    f"the {what} {tuple(own.shape)}; they must be equal"
                )
