"""Read the number of samples from a model's output, and whether checkpointing made the output."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["has_reentrant_checkpoint", "samples_in"]


def samples_in(output: Any) -> int:
    """Return the number of samples in a model's output; 0 if the output has no tensor with axes.

    The entries of a mapping or list describe the same samples if they have the same length. Otherwise each is
    one task's part of the batch, and the lengths add up.

    Examples
    --------
    >>> import torch
    >>> samples_in({"logits": torch.zeros(8, 3)})
    8
    """
    if isinstance(output, Mapping):
        output = list(output.values())
    found = [output] if isinstance(output, Tensor) else output if isinstance(output, (tuple, list)) else []
    counts = [tensor.shape[0] for tensor in found if isinstance(tensor, Tensor) and len(tensor.shape) > 0]
    if isinstance(output, list) and len(set(counts)) > 1:
        return sum(counts)
    return counts[0] if counts else 0


def has_reentrant_checkpoint(output: Tensor) -> bool:
    """Return whether an output depends on a block that was checkpointed with ``use_reentrant=True``."""
    nodes, seen = [output.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        if node.name().endswith("CheckpointFunctionBackward"):
            return True
        seen.add(node)
        nodes += [parent for parent, _ in node.next_functions]
    return False
