"""Check the types and shapes of the tensors that an adapter reads from a module."""

from torch import Tensor, nn

from fadiag.capture.layers.adapter import LayerAdapter
from fadiag.errors import InputError

__all__ = ["check_tensors"]


def check_tensors(adapter: LayerAdapter, module: nn.Module, what: str) -> None:
    """Raise InputError if an adapter's weight, feedback or bias is not a tensor, or the shapes do not match.

    ``what`` names the module in the message. `choose_layers` checks the length of the bias.
    """
    kind = type(module).__name__
    feedback, bias = adapter.feedback(module), adapter.bias(module)
    weight = feedback if adapter.weight is None else adapter.weight(module)
    for name, found in (("weight", weight), ("feedback", feedback), ("bias", bias)):
        if not isinstance(found, Tensor) and (name == "weight" or found is not None):
            raise InputError(
                f"{what} is a {kind} whose adapter's {name}(module) returns a {type(found).__name__}; let it "
                f"return a tensor{'' if name == 'weight' else ' or None'}"
            )
    assert isinstance(weight, Tensor)
    if adapter.feedback_kind == "layerwise" and (feedback is None or feedback.shape != weight.shape):
        shape = "None" if feedback is None else str(tuple(feedback.shape))
        raise InputError(
            f"{what} is a {kind} whose adapter says 'layerwise', and its feedback is {shape} where the "
            f"weight is {tuple(weight.shape)}; it must have the weight's shape"
        )
    if adapter.feedback_kind == "exact" and feedback is not None:
        raise InputError(
            f"{what} is a {kind} whose adapter says 'exact' and gives a feedback; let feedback(module) "
            "return None, or say feedback_kind='layerwise'"
        )
