"""The reference trainer: one loop, recorded as any user would record their own."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fadiag.capture import Probe, Recorder
from fadiag.errors import ConfigError, FadiagError
from fadiag.paths import absolute_path
from fadiag.rules import convert
from fadiag.rules.feedback import generator_for
from fadiag.training.config import Config
from fadiag.training.datasets import Images, read_images
from fadiag.training.model import build_model, hidden_layers
from fadiag.training.optimizer import build_optimizers, build_schedules

__all__ = ["DivergedError", "Progress", "pick_device", "train"]

#: Called after each epoch with the steps done, the steps in all and the latest scalars.
Progress = Callable[[int, int, dict[str, float]], None]


class DivergedError(FadiagError, RuntimeError):
    """The training loss became infinite or not a number."""


def train(
    config: Config,
    out: str | Path,
    *,
    device: str = "auto",
    progress: Progress | None = None,
    meta: Mapping[str, str | int | float] | None = None,
) -> Path:
    """Train one network as configured and record it.

    The same configuration gives the same numbers, bit for bit, on one machine with one number of threads.
    torch's own generators are put back.

    Parameters
    ----------
    config : Config
    out : str or Path
        The store to write; it must not exist.
    device : {"auto", "cpu", "cuda"}
    progress : callable, optional
        Called after each epoch with the steps done, the steps in all and the latest scalars.
    meta : mapping, optional
        More meta entries of the store, such as the run's study.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    ConfigError
        The configuration does not fit the data.
    DivergedError
        The loss is not finite. The store keeps what was recorded, with the status "failed".
    """
    place, store = pick_device(device), absolute_path(out)
    images = _images(config)
    x, y, test_x, test_y = images.tensors(place)
    model = build_model(config.model, x[0].numel(), images.classes, config.seeds.init)
    model = convert(model, rule=config.rule, seed=config.seeds.feedback).to(place)
    per_epoch = len(x) // config.batch_size
    steps = config.epochs * per_epoch
    optimizers = build_optimizers(config, model)
    schedules = build_schedules(config, optimizers, steps)
    shuffle = torch.Generator("cpu").manual_seed(config.seeds.data)

    def measure() -> dict[str, float]:
        held_out = f"{config.data.held_out}_accuracy"
        return {"train_accuracy": accuracy(model, x, y), held_out: accuracy(model, test_x, test_y)}

    record, samples = config.record, config.record.probe_samples
    probe = Probe(
        (test_x[:samples], test_y[:samples]),
        loss_of,
        mode=record.probe_mode,
        redraws=record.redraws,
        gate_draws=record.gate_draws,
    )
    with (
        _seeded(generator_for(config.seeds.feedback, "each pass").initial_seed(), place),
        Recorder(
            model,
            store,
            optimizer=optimizers,
            probes={"probe": probe},
            every=record.every,
            steps=steps,
            meta={**_meta(config, model, images.fingerprint), **(meta or {})},
            config=msgspec.to_builtins(config),
        ) as recorder,
    ):
        recorder.log(**measure())
        model.train()
        for step in range(steps):
            if step % per_epoch == 0:
                order = torch.randperm(len(x), generator=shuffle, device="cpu").to(place)
                batches = torch.split(order, config.batch_size)
            batch = batches[step % per_epoch]
            loss = loss_of(model, (x[batch], y[batch]))
            if not math.isfinite(value := loss.item()):
                raise DivergedError(_diverged(config, value, step, store))
            model.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()
            for schedule in schedules:
                schedule.step()
            done = step + 1
            recorder.step(epoch=done / per_epoch, loss=value)
            if done % per_epoch == 0:
                accuracies = measure()
                recorder.log(**accuracies)
                if progress is not None:
                    progress(done, steps, {"loss": value, **accuracies})
    return store


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's own generators, which some rules draw from at each pass, and put them back."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            torch.cuda.manual_seed(seed)
        yield


def _images(config: Config) -> Images:
    """Read the images that the configuration names, and check that there are enough."""
    data = config.data
    images = read_images(data.name, None if data.folder is None else absolute_path(data.folder))
    images = images.head(data.train_samples, data.test_samples)
    if data.held_out == "validation":
        images = images.with_validation()
    train, held_out = len(images.train_labels), len(images.test_labels)
    if config.batch_size > train:
        raise ConfigError(
            f"batch_size is {config.batch_size:,}, but there are only {train:,} training images"
        )
    if config.record.probe_samples > held_out:
        raise ConfigError(
            f"record.probe_samples is {config.record.probe_samples:,}, "
            f"but there are only {held_out:,} {data.held_out} images"
        )
    return images


def pick_device(name: str) -> torch.device:
    """Return the device with a name; "auto" is CUDA if torch sees a CUDA device, else the CPU.

    Raises
    ------
    ConfigError
        The name is unknown, or it is "cuda" and torch sees no CUDA device.
    """
    if name not in {"auto", "cpu", "cuda"}:
        raise ConfigError(f"unknown device {name!r}; it is 'auto', 'cpu' or 'cuda'")
    there = torch.cuda.is_available()
    if name == "cuda" and not there:
        raise ConfigError("device is 'cuda', but torch sees no CUDA device; take 'auto' or 'cpu'")
    return torch.device("cuda" if there and name != "cpu" else "cpu")


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of images that the model classifies right in eval mode; put its mode back."""
    training = model.training
    model.eval()
    chunks = zip(torch.split(x, 1000), torch.split(y, 1000), strict=True)
    right = torch.stack([(model(images).argmax(1) == labels).sum() for images, labels in chunks]).sum().item()
    model.train(training)
    return right / len(x)


def loss_of(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross-entropy of a batch of images and labels."""
    x, y = batch
    return cross_entropy(model(x), y)


def _meta(config: Config, model: nn.Sequential, fingerprint: str) -> dict[str, str | int | float]:
    return {
        "condition": config.label,
        "rule": config.rule,
        "seed": config.seeds.init,
        "data_seed": config.seeds.data,
        "feedback_seed": config.seeds.feedback,
        "norm": config.model.norm,
        "optimizer": config.optimizer.name,
        "learning_rate": config.optimizer.learning_rate,
        "dataset": config.data.name,
        "data_sha256": fingerprint,
        "held_out": config.data.held_out,
        "primary_layer": hidden_layers(model)[-1],
    }


def _diverged(config: Config, value: float, step: int, store: Path) -> str:
    return (
        f"the loss is {value} at step {step} with optimizer.learning_rate {config.optimizer.learning_rate:g} "
        f"(condition {config.label}); take a smaller one. What was recorded before is in {store}"
    )
