"""Running a model out of band so that the run does not notice."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from fadiag.capture.out_of_band import out_of_band

__all__ = ["Mode", "isolated"]

Mode = Literal["train", "eval"]


@contextmanager
def isolated(model: nn.Module, *, mode: Mode, seed: int) -> Iterator[None]:
    """Put back, on leaving, all that a forward and backward pass inside may touch.

    Random numbers start from ``seed``, so every pass sees the same dropout masks. Buffers are clones inside.
    A parameter that the pass replaces, or a table that it renormalises, is put back. What is compiled runs
    uncompiled, since a compiled graph does not see hooks attached after it. A model already in the mode asked
    for keeps its modules' own flags (a norm frozen by ``eval()`` stays so).
    """
    modules = list(model.modules())
    training = [module.training for module in modules]
    buffers = [dict(module._buffers) for module in modules]
    parameters = [dict(module._parameters) for module in modules]
    # An embedding with max_norm writes to its table in the forward pass.
    tables = [m.weight for m in modules if isinstance(m, nn.Embedding) and m.max_norm is not None]
    rows = [table.detach().clone() for table in tables]
    python, numpy = random.getstate(), np.random.get_state()
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    clones: dict[int, Tensor] = {}
    try:
        with (
            torch.random.fork_rng(devices=devices),
            torch.enable_grad(),
            torch.compiler.set_stance("force_eager"),
            out_of_band(),
        ):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            for module in modules:
                for name, buffer in module._buffers.items():
                    if buffer is not None:
                        module._buffers[name] = clones.setdefault(id(buffer), buffer.detach().clone())
            if model.training != (mode == "train"):
                model.train(mode == "train")
            yield
    finally:
        for module, flag, kept, own in zip(modules, training, buffers, parameters, strict=True):
            module.training = flag
            module._buffers.update(kept)
            module._parameters.update(own)
        for table, values in zip(tables, rows, strict=True):
            table.data.copy_(values)
        random.setstate(python)
        np.random.set_state(numpy)
