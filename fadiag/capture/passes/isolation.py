"""Running a model out of band so that the run does not notice."""

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
    """Which modules of a model are in training mode when the model trains.

    The model is looked at now and then; what counts is the last time that it was in training mode itself. So
    a norm frozen by ``eval()`` stays frozen in a train-mode probe, also when it is asked after a validation.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = list(model.modules())
        self._seen: list[bool] = []
        self.look()

    def look(self) -> None:
        """Remember the modules' flags, where the model is in training mode."""
        if self._modules[0].training:
            self._seen = [module.training for module in self._modules]

    def put(self) -> None:
        """Give the modules the flags last seen; none was seen of a model that was never in training mode."""
        if self._seen:
            _set(self._modules, self._seen)


@contextmanager
def isolated(model: nn.Module, flags: TrainingFlags, *, mode: Mode, seed: int) -> Iterator[None]:
    """Put back, on leaving, all that a forward and backward pass inside may touch.

    Random numbers start from ``seed``, so every pass sees the same dropout masks. What is compiled runs
    uncompiled, since a compiled graph does not see hooks attached after it.

    See Also
    --------
    fadiag.capture.passes.module_state : what is put back of modules and parameters.
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
    """Leave the inference mode and the autocast that surround the call, which are not the model's own."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        for kind in {"cpu", *(parameter.device.type for parameter in model.parameters())}:
            if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                # Without its cache, which may hold casts of weights from before the update.
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
    """Return the GPUs that a model lies on, by number.

    Examples
    --------
    >>> cuda_devices(nn.Linear(2, 1))
    []
    """
    return sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})


def seed_torch(seed: int, model: nn.Module) -> None:
    """Seed torch on the CPU and on the GPUs of a model.

    ``torch.manual_seed`` seeds every other GPU too, at the latest when CUDA starts, and nothing puts those
    back. While CUDA has not started, it also formats the stack at each call, which is slow.

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
    # By the model's own train(), which may do more than set flags; and back by it.
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
    """Mark the passes made inside, for whoever hears the training: another recorder of the same model, too.

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
    """Return whether the pass that runs now is one of fadiag's own, and none of the training's.

    A hook that counts passes, or expects a training batch, can return at once then.

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
