"""Turn TF32 off, where a GPU would round the inputs of a product to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["without_tf32"]


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 convolutions and products in float32 inside.

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
    backends: Any = torch.backends  # mypy does not see its parts
    kinds = backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul, backends.mkldnn.matmul
    before, products = [kind.fp32_precision for kind in kinds], _older_switch()
    # torch refuses to compute if its older switch for products says something else than the newer one.
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
    """Return what torch's older switch for products says; "highest" if a user set only the newer one."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "highest"
