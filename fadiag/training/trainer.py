"""Train and record one network: the loop of the reference trainer."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from msgspec.structs import replace
from torch import nn

from fadiag.capture import Recorder
from fadiag.capture.passes.isolation import cuda_devices, seed_torch
from fadiag.errors import ConfigError, FadiagError
from fadiag.paths import absolute_path
from fadiag.rules.feedback import generator_for
from fadiag.store import run_info
from fadiag.training.checkpoint import Checkpoint, resumable, save_checkpoint
from fadiag.training.checks import check_batch_norm, check_counts, check_layers, pick_device
from fadiag.training.config import Config
from fadiag.training.layer_order import layers_in_order
from fadiag.training.learning_rule import apply_rule, fa_feedback
from fadiag.training.loss import accuracy, loss_of
from fadiag.training.models import build_model
from fadiag.training.optimizers import (
    build_optimizers,
    clip_gradients,
    learned_feedback,
    rate_factor,
    set_rates,
)
from fadiag.training.recording import meta_of, recorder_options
from fadiag.training.samples import Given, prepare_data
from fadiag.training.state import TrainingState
from fadiag.training.twin import build_twin

__all__ = ["TRAINER_VERSION", "DivergedError", "Progress", "train"]

#: Raise it with every change of a run's numbers: no study may take an old run for a new one.
TRAINER_VERSION = 1
#: Called after each epoch with the steps done, the steps in all and the latest scalars.
Progress = Callable[[int, int, dict[str, float]], None]


class DivergedError(FadiagError, RuntimeError):
    """The training loss became infinite or not a number, that of the run or of its twin."""


def train(
    config: Config,
    out: str | Path,
    *,
    model: nn.Module | None = None,
    data: Given | None = None,
    test: Given | None = None,
    device: str = "auto",
    progress: Progress | None = None,
    meta: Mapping[str, str | int | float] | None = None,
    resume: bool = False,
    branch: Checkpoint | None = None,
) -> Path:
    """Train one network as configured and record it.

    The same configuration gives the same numbers, bit for bit, on one CPU with one number of threads, also
    where a killed run goes on from a checkpoint. torch's own generators are put back.

    Parameters
    ----------
    config : Config
    out : str or Path
        The store to write; it must not exist, but for ``resume``.
    model : nn.Module, optional
        The user's own network, in place of the one that the configuration names. It is trained in place, by
        the configured rule.
    data, test : (Tensor, Tensor) or torch.utils.data.Dataset, optional
        The user's own inputs and class labels, in place of those that the configuration names. Without
        ``test`` the last fifth of ``data`` is held out.
    device : {"auto", "cpu", "cuda"}
    progress : callable, optional
        Called after each epoch with the steps done, the steps in all and the latest scalars.
    meta : mapping, optional
        More meta entries of the store, such as the run's study.
    resume : bool
        If the store exists, go on from the newest checkpoint (see ``train.checkpoint_every``) whose records
        are all there; begin anew if there is none, and do nothing if the run is complete.
    branch : Checkpoint, optional
        Begin with this state of another run, see `fadiag.training.load_checkpoint`. The store counts the
        steps on, and its first weights are the checkpoint's.

    Returns
    -------
    Path
        The store.

    Raises
    ------
    ConfigError
        The configuration does not fit the data or the network, or the data are not those of the checkpoint.
    InputError
        A file of the data is missing or damaged, or the rule cannot apply to a layer.
    DivergedError
        The loss of the run or of its twin is not finite. The store keeps what was recorded, with the status
        "failed".

    Examples
    --------
    >>> import tempfile
    >>> from fadiag.training import RecordConfig, TrainConfig
    >>> x, y = torch.randn(60, 5), torch.randint(3, (60,))
    >>> net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    >>> config = Config(train=TrainConfig(epochs=1, batch_size=8), record=RecordConfig(probe_samples=12))
    >>> train(config, tempfile.mkdtemp() + "/run.zarr", model=net, data=(x, y)).name
    'run.zarr'
    """
    place, store = pick_device(device), absolute_path(out)
    config = _with_given(config, model, data)
    how: dict[str, Any] = {}
    checkpoint = branch
    if branch is not None:
        branch.check_branch(config)
        how = {"first_step": branch.step}
        meta = {"branched_from": f"{branch.run.name}@{branch.step}", **(meta or {})}
    elif resume and store.exists():
        if run_info(store).status == "complete":
            return store
        checkpoint = resumable(store, config)
        how = {"if_exists": "replace"} if checkpoint is None else {"resume_from": checkpoint.step}
    samples = prepare_data(config.data, data, test, config.seeds.data, place)
    if checkpoint is not None:
        checkpoint.check_data(samples)
    check_counts(config, samples)
    example = samples.train.take(torch.arange(min(2, len(samples.train)), device="cpu"))[0]
    if model is None:
        if samples.classes is None:
            raise ConfigError("a torch Dataset does not say its number of classes; give model= too")
        model = build_model(config.model, tuple(example.shape[1:]), samples.classes, config.seeds.init)
    model = model.to(place)
    layers = layers_in_order(model, example)
    check_layers(layers, model)
    feedbacks = fa_feedback(config, model) if config.record.error_fa else {}
    twin = build_twin(config, model, example) if config.rule == "borrowed_gates" else None
    model = apply_rule(config, model, layers, example, None if twin is None else twin.model)
    check_batch_norm(config, model)
    optimizers, taken = build_optimizers(config, model, layers)
    trained = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    feedback = learned_feedback(model.modules())
    loss_function = loss_of(config)
    probe_loss = loss_function if twin is None else twin.lending(loss_function)
    # A twin trains and is saved with the run, and only the run's network is recorded.
    networks = model if twin is None else nn.ModuleList([model, twin.model])
    updates = optimizers if twin is None else [*optimizers, *twin.optimizers]
    per_epoch = len(samples.train) // config.train.batch_size
    steps = config.train.epochs * per_epoch

    with _seeded(generator_for(config.seeds.feedback, "each pass").initial_seed(), model):
        state = TrainingState.begin(config, networks, updates, place, len(samples.train))
        if checkpoint is not None:
            before = checkpoint.config
            state.restore(
                checkpoint.contents,
                same_feedback=(config.rule, config.seeds.feedback) == (before.rule, before.seeds.feedback),
                same_data=config.seeds.data == before.seeds.data,
            )
        networks.train()
        first, scaler = state.step, state.scaler
        with Recorder(
            model,
            store,
            optimizer=optimizers,
            steps=steps,
            scaler=scaler if scaler.is_enabled() else None,
            meta={**meta_of(config, samples, layers, taken), **(meta or {})},
            **recorder_options(config, samples, probe_loss, feedbacks),
            **how,
        ) as recorder:
            run_id, every = run_info(store).run_id, config.train.checkpoint_every
            scalars: dict[str, float] = {}
            for step in range(first, steps + 1):
                if every is not None and step % every == 0 and step > first:
                    save_checkpoint(store, run_id, config, samples, state)
                if step % per_epoch == 0:
                    accuracies = {
                        "train_accuracy": accuracy(config, model, samples.train),
                        f"{samples.held_out_name}_accuracy": accuracy(config, model, samples.held_out),
                    }
                    recorder.log(**accuracies)
                    if progress is not None and step:
                        progress(step, steps, {**scalars, **accuracies})
                    state.draw_order()
                if step == steps:
                    break
                begin = step % per_epoch * config.train.batch_size
                batch = state.order[begin : begin + config.train.batch_size]
                set_rates(updates, rate_factor(config.optimizer, step, steps))
                networks.zero_grad()
                total, twin_total, share = 0.0, 0.0, 1 / config.train.accumulate
                for part in batch.chunk(config.train.accumulate):
                    x, y = samples.batch(part, state.augment)
                    if twin is not None:
                        twin_total += twin.learn((x, y), share, scaler)
                    loss = loss_function(model, (x, y), share)
                    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                    total += loss.item()
                for what, value in (("the loss", total), ("the loss of the twin", twin_total)):
                    if not math.isfinite(value):
                        raise DivergedError(_diverged(config, what, value, step, store))
                if config.optimizer.clip_norm is not None:
                    for optimizer in optimizers:
                        scaler.unscale_(optimizer)
                    clip_gradients(trained, feedback, config.optimizer.clip_norm)
                    if twin is not None:
                        twin.clip(scaler, config.optimizer.clip_norm)
                for optimizer in updates:
                    scaler.step(optimizer)
                scaler.update()
                state.step = step + 1
                scalars["loss"] = total
                recorder.step(epoch=(step + 1) / per_epoch, loss=total)
    return store


def _with_given(config: Config, model: nn.Module | None, data: Given | None) -> Config:
    """Return the configuration with the name "given" for what the user gives: the manifest has to be true."""
    if model is not None:
        if config.model.weight_scale != 1:
            raise ConfigError(
                f"model.weight_scale is {config.model.weight_scale:g}, which only a built-in network has; "
                "scale the weights of model=, and leave model.weight_scale out"
            )
        config = replace(config, model=replace(config.model, name="given"))
    if data is not None:
        config = replace(config, data=replace(config.data, name="given"))
    return config


@contextmanager
def _seeded(seed: int, model: nn.Module) -> Iterator[None]:
    """Seed torch's own generators, from which some rules draw at each pass, and restore them."""
    with torch.random.fork_rng(devices=cuda_devices(model)):
        seed_torch(seed, model)
        yield


def _diverged(config: Config, what: str, value: float, step: int, store: Path) -> str:
    return (
        f"{what} is {value} at step {step} with optimizer.learning_rate {config.optimizer.learning_rate:g} "
        f"(condition {config.label}); take a smaller one. What was recorded before is in {store}"
    )
