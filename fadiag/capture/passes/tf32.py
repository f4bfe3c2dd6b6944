"""Turn TF32 off, to which a GPU may round the inputs of a product."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["without_tf32"]


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute convolutions and products of float32 tensors in full float32 inside.

    A GPU computes float32 convolutions in TF32 by default. TF32 has the 11 bits of float16, which is too
    coarse for a small difference of two losses.

    Examples
    --------
    >>> with without_tf32():
    ...     torch.backends.cudnn.conv.fp32_precision
    'ieee'
    >>> torch.backends.cudnn.conv.fp32_precision
    'tf32'
    """
    backends: Any = torch.backends  # mypy does not know its attributes
    kinds = backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul
    before, products = [kind.fp32_precision for kind in kinds], _older_switch()
    # torch raises if its older setting for products disagrees with the newer one.
    if products != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        if products != "highest":
            torch.set_float32_matmul_precision(products)
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = precision


def _older_switch() -> str:
    """Return torch's older setting for products; "highest" if a user set only the newer one."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "highest"
