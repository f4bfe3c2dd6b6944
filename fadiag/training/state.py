"""TrainingState holds all that changes during training, for checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fadiag.errors import ConfigError
from fadiag.rules import FeedbackLayer
from fadiag.rules.feedback import generator_for
from fadiag.training.config import Config

__all__ = ["TrainingState"]


@dataclass
class TrainingState:
    """Weights, optimizers, loss scale, generators, the order of the epoch, and the updates made.

    Learning rates are not part of it: they follow from the step and the configuration.

    Attributes
    ----------
    model : nn.Module
    optimizers : list of torch.optim.Optimizer
    scaler : torch.amp.GradScaler
    shuffle, augment : torch.Generator
        On the CPU. Rules and dropout draw from torch's own generators; their states are saved too.
    device : torch.device
    order : Tensor
        The indices of the epoch's samples.
    step : int
    """

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    scaler: torch.amp.GradScaler
    shuffle: torch.Generator
    augment: torch.Generator
    device: torch.device
    order: Tensor
    step: int = 0

    @classmethod
    def begin(
        cls,
        config: Config,
        model: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        device: torch.device,
        samples: int,
    ) -> "TrainingState":
        """Return the state before the first update."""
        return cls(
            model,
            optimizers,
            torch.amp.GradScaler(device.type, enabled=config.train.amp == "fp16"),
            torch.Generator("cpu").manual_seed(config.seeds.data),
            generator_for(config.seeds.data, "augmentation"),
            device,
            torch.arange(samples, device="cpu"),
        )

    def draw_order(self) -> None:
        """Draw the order of an epoch."""
        self.order = torch.randperm(len(self.order), generator=self.shuffle, device="cpu")

    def contents(self) -> dict[str, Any]:
        """Return everything as plain containers of tensors, numbers and texts."""
        generators = {"shuffle": self.shuffle.get_state(), "augment": self.augment.get_state()}
        generators["torch"] = torch.get_rng_state()
        if self.device.type == "cuda":
            generators["cuda"] = torch.cuda.get_rng_state(self.device)
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [
                {"kind": type(optimizer).__name__, "state": optimizer.state_dict()}
                for optimizer in self.optimizers
            ],
            "scaler": self.scaler.state_dict(),
            "generators": generators,
            "order": self.order,
        }

    def restore(self, contents: Mapping[str, Any], *, same_feedback: bool, same_data: bool) -> None:
        """Take over a checkpoint's state; torch's own generators get theirs too.

        The rates and the other options of the optimizers stay those that they were built with.

        Parameters
        ----------
        contents : mapping
        same_feedback : bool
            Whether rule and feedback seed are the checkpoint's. If not, the feedback and torch's generators
            stay as they are.
        same_data : bool
            Whether the data seed is the checkpoint's. If not, shuffling and augmentation begin anew.

        Raises
        ------
        ConfigError
            The network or the optimizers are others.
        """
        self._restore_model(contents["model"], same_feedback=same_feedback)
        kinds = [type(optimizer).__name__ for optimizer in self.optimizers]
        before = [held["kind"] for held in contents["optimizers"]]
        if kinds != before:
            raise ConfigError(
                f"the checkpoint is of {' and '.join(before)}, and this run has {' and '.join(kinds)}, which "
                "cannot go on from its state; keep the optimizers"
            )
        for optimizer, held in zip(self.optimizers, contents["optimizers"], strict=True):
            own = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
            try:
                optimizer.load_state_dict(held["state"])
            except ValueError:
                raise ConfigError(
                    f"{held['kind']} has other parameters than in the checkpoint; keep optimizer.layers and "
                    "the rule"
                ) from None
            for group, options in zip(optimizer.param_groups, own, strict=True):
                group.update(options)
        if contents["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(contents["scaler"])
        generators = contents["generators"]
        if same_data:
            self.shuffle.set_state(generators["shuffle"])
            self.augment.set_state(generators["augment"])
            self.order = contents["order"]
        else:
            self.draw_order()
        if same_feedback:
            torch.set_rng_state(generators["torch"])
            if self.device.type == "cuda" and "cuda" in generators:
                torch.cuda.set_rng_state(generators["cuda"], self.device)
        self.step = contents["step"]

    def _restore_model(self, held: Mapping[str, Tensor], *, same_feedback: bool) -> None:
        drawn = {
            f"{name}.{buffer}".lstrip(".")
            for name, module in self.model.named_modules()
            if isinstance(module, FeedbackLayer)
            for buffer, _ in module.named_buffers(recurse=False)
        }
        mine = self.model.state_dict()
        kept = set() if same_feedback else drawn
        needed = mine.keys() - drawn
        for name in sorted(needed):
            if name not in held or held[name].shape != mine[name].shape:
                there = f"of shape {tuple(held[name].shape)}" if name in held else "nowhere"
                raise ConfigError(
                    f"{name!r} of shape {tuple(mine[name].shape)} is {there} in the checkpoint; take the "
                    "network of the checkpoint"
                )
        self.model.load_state_dict(
            {name: held.get(name, mine[name]) for name in mine if name not in kept}, strict=False
        )
