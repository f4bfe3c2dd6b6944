"""Run a model out of band without an effect on the training run."""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Literal

import numpy as np
import torch
from torch import nn

from fadiag.capture.passes.module_state import guard_parameters, preserve_gradients, preserve_module_state

__all__ = [
    "Mode",
    "TrainingFlags",
    "cuda_devices",
    "is_out_of_band",
    "isolated",
    "out_of_band",
    "outside_of_contexts",
    "seed_torch",
]

Mode = Literal["train", "eval"]
_INSIDE: ContextVar[bool] = ContextVar("_INSIDE", default=False)


class TrainingFlags:
    """The training flags that the modules of a model have when the model trains.

    The recorder reads the flags now and then; those from the last time that the model was in training mode
    count. So a norm frozen by ``eval()`` stays frozen in a train-mode probe, even after a validation.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.modules())
        self._seen: list[bool] = []
        self.look()

    def look(self) -> None:
        """Remember the modules' flags if the model is in training mode."""
        if self._modules[0].training:
            self._seen = [module.training for module in self._modules]

    def put(self) -> None:
        """Set the modules' flags to those seen last; do nothing if the model was never in training mode."""
        if self._seen:
            _set(self._modules, self._seen)


@contextmanager
def isolated(model: nn.Module, flags: TrainingFlags, *, mode: Mode, seed: int) -> Iterator[None]:
    """Restore, on exit, all state that a forward and backward pass inside may change.

    Random numbers start from ``seed``, so every pass sees the same dropout masks. Compiled modules run
    uncompiled, since a compiled graph does not see hooks that are attached later.

    See Also
    --------
    fadiag.capture.passes.module_state : Restores the modules and parameters.
    """
    with (
        preserve_gradients(model),
        preserve_module_state(model),
        guard_parameters(model),
        _drawing_from(seed, model),
        torch.enable_grad(),
        torch.compiler.set_stance("force_eager"),
        out_of_band(),
        _in_mode(model, mode, flags),
    ):
        yield


@contextmanager
def outside_of_contexts(model: nn.Module) -> Iterator[None]:
    """Leave the inference mode and the autocast around the call, which do not belong to the model."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in {"cpu", *(parameter.device.type for parameter in model.parameters())}:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                # Without the cache, which may hold casts of weights from before the update.
                stack.enter_context(torch.autocast(kind, enabled=False, cache_enabled=False))
        yield


@contextmanager
def _drawing_from(seed: int, model: nn.Module) -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=cuda_devices(model)):
            seed_torch(seed, model)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def cuda_devices(model: nn.Module) -> list[int]:
    """Return the indices of the GPUs that hold a model's parameters.

    Examples
    --------
    >>> cuda_devices(nn.Linear(2, 1))
    []
    """
    return sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})


def seed_torch(seed: int, model: nn.Module) -> None:
    """Seed torch on the CPU and on the GPUs of a model.

    ``torch.manual_seed`` also seeds every other GPU, now or when CUDA starts, and nothing restores their
    state. Before CUDA starts, it also formats the stack at each call, which is slow.

    Examples
    --------
    >>> with torch.random.fork_rng(devices=[]):
    ...     seed_torch(0, nn.Linear(2, 1))
    ...     first = torch.rand(3)
    ...     _ = torch.default_generator.manual_seed(0)
    ...     torch.equal(torch.rand(3), first)
    True
    """
    torch.default_generator.manual_seed(seed)
    for device in cuda_devices(model):
        torch.cuda.default_generators[device].manual_seed(seed)


@contextmanager
def _in_mode(model: nn.Module, mode: Mode, flags: TrainingFlags) -> Iterator[None]:
    modules = list(model.modules())
    before = [module.training for module in modules]
    # Switch with the model's own train(), which may do more than set flags, and switch back with it.
    switch = not model.training if mode == "train" else any(before)
    try:
        if switch:
            model.train(mode == "train")
        if mode == "train":
            flags.put()
        yield
    finally:
        if switch:
            model.train(before[0])
        _set(modules, before)


def _set(modules: Sequence[nn.Module], flags: Sequence[bool]) -> None:
    for module, flag in zip(modules, flags, strict=True):
        if module.training != flag:
            module.training = flag


@contextmanager
def out_of_band() -> Iterator[None]:
    """Mark the passes made inside, for the user's hooks and for other recorders of the same model.

    Examples
    --------
    >>> with out_of_band():
    ...     is_out_of_band()
    True
    >>> is_out_of_band()
    False
    """
    token = _INSIDE.set(True)
    try:
        yield
    finally:
        _INSIDE.reset(token)


def is_out_of_band() -> bool:
    """Return whether the running pass is fadiag's own and not part of the training.

    A hook that counts passes, or expects a training batch, can then return at once.

    Examples
    --------
    >>> import torch
    >>> model, seen = torch.nn.Linear(2, 1), []
    >>> hook = lambda module, inputs, output: None if is_out_of_band() else seen.append(output)
    >>> handle = model.register_forward_hook(hook)
    >>> y = model(torch.ones(3, 2))
    >>> with out_of_band():
    ...     y = model(torch.ones(3, 2))
    >>> len(seen)
    1
    """
    return _INSIDE.get()
