"""The callback for Lightning, in the whole life of a training."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fadiag.errors import StoreError
from fadiag.rules import convert
from fadiag.store import open_run, run_info
from tests.capture.toy import loss_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Lightning warns of itself and of the machine
]

lightning = pytest.importorskip("lightning")
from lightning.pytorch.callbacks import (  # noqa: E402
    EarlyStopping,
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
)

from fadiag.hosts.lightning import Record  # noqa: E402


class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        layers = (nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
        self.net = convert(nn.Sequential(*layers), rule="fa", seed=0)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch):
        return loss_of(self, batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


@pytest.fixture
def fit(tmp_path):
    """Return the function that fits a model with the callback, which is ``trainer.record``."""

    def run(
        loader,
        *,
        epochs=1,
        model=None,
        resume=None,
        every=2,
        others=(),
        before=(),
        record=None,
        held_out=None,
        **options,
    ):
        record = record or Record(tmp_path / "run.zarr", every=every)
        trainer = lightning.Trainer(
            max_epochs=epochs,
            callbacks=[*before, record, *others],
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **{"enable_checkpointing": False, **options},
        )
        trainer.record = record
        trainer.fit(model or Net(), loader, held_out, ckpt_path=resume, weights_only=False)
        return trainer

    return run


def batches(count):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(8 * count, 1, 8, 8, generator=generator, device="cpu")
    return DataLoader(TensorDataset(x, torch.arange(8 * count) % 10), batch_size=8)


@pytest.fixture
def watched():
    """Return the function that makes a model which keeps the weight that each update left, as ``after``."""

    class Watched(Net):
        def __init__(self):
            super().__init__()
            self.after = {}

        def on_train_batch_end(self, *args):
            # SWA counts an update that is none in the epoch that it adds.
            self.after.setdefault(self.trainer.global_step, self.net[1].weight.detach().numpy().copy())

        def validation_step(self, batch):
            self.log("val/loss", loss_of(self, batch))

        test_step = validation_step

    def make():
        torch.manual_seed(0)
        return Watched()

    return make


def check_weights(run, model, *, first):
    """Check that each record from a step on holds the weight that its update left."""
    recorded, steps = run["state/net.1/weight"], run["state/step"].values
    for step in steps[steps >= first]:
        np.testing.assert_array_equal(recorded.sel(step=step), model.after[step])


def averaging(kind):
    if kind.startswith("ema"):
        return EMAWeightAveraging(decay=0.9)
    return StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=2)


@pytest.mark.parametrize("kind", ["ema", "swa", "ema, norm", "swa, norm"])
@pytest.mark.parametrize("first", [True, False])
def test_the_last_record_is_not_of_averaged_weights(kind, first, fit, watched, tmp_path):
    model, loader = watched(), batches(4)
    if kind.endswith("norm"):  # SWA then adds an epoch
        model.net.insert(2, nn.BatchNorm1d(32))
    before, others = ([averaging(kind)], []) if first else ([], [averaging(kind)])
    fit(loader, epochs=5, model=model, before=before, others=others, every=7, held_out=loader)
    assert (model.net[1].weight.detach().numpy() != model.after[20]).any()
    run = open_run(tmp_path / "run.zarr")
    np.testing.assert_array_equal(run["state/step"], [0, 7, 14, 20])
    np.testing.assert_array_equal(run["log/step"], range(20))
    check_weights(run, model, first=1)
    assert run_info(tmp_path / "run.zarr").status == "complete"


@pytest.mark.parametrize("first", [True, False])
def test_early_stopping(first, fit, watched, tmp_path):
    model, loader = watched(), batches(4)
    stop = EarlyStopping("val/loss", patience=1, min_delta=10.0)
    before, others = ([stop], []) if first else ([], [stop])
    others = [*others, averaging("ema")]
    trainer = fit(loader, epochs=9, model=model, before=before, others=others, held_out=loader, every=5)
    last = trainer.global_step
    assert last == 8
    run = open_run(tmp_path / "run.zarr")
    np.testing.assert_array_equal(run["state/step"], [0, 5, last])
    check_weights(run, model, first=1)


def test_validate_before_and_the_best_model_after(fit, watched, tmp_path):
    model, loader = watched(), batches(4)
    record = Record(tmp_path / "run.zarr", every=5)
    lightning.Trainer(accelerator="cpu", logger=False, callbacks=[record], barebones=True).validate(
        model, loader
    )
    best = ModelCheckpoint(tmp_path, monitor="val/loss")
    trainer = fit(
        loader,
        epochs=2,
        model=model,
        record=record,
        others=[best],
        held_out=loader,
        enable_checkpointing=True,
    )
    before = open_run(tmp_path / "run.zarr")["log"].to_dataset()
    trainer.test(model, loader, ckpt_path="best", weights_only=False)
    run = open_run(tmp_path / "run.zarr")
    assert run["log"].to_dataset().identical(before)
    np.testing.assert_array_equal(run["state/step"], [0, 5, 8])
    check_weights(run, model, first=1)


def test_fit_again_goes_on_and_another_trainer_begins(fit, watched, tmp_path):
    model, loader = watched(), batches(4)
    trainer = fit(loader, model=model)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, loader)
    np.testing.assert_array_equal(open_run(tmp_path / "run.zarr")["state/step"], [0, 2, 4, 6, 8])
    check_weights(open_run(tmp_path / "run.zarr"), model, first=1)
    record = trainer.record
    with pytest.raises(StoreError, match=r"run\.zarr exists"):
        fit(loader, record=record)
    record.path = tmp_path / "second.zarr"
    fit(loader, record=record)
    np.testing.assert_array_equal(open_run(tmp_path / "second.zarr")["state/step"], [0, 2, 4])


def test_steps_are_updates_and_their_loss_is_of_all_accumulated_batches(fit, tmp_path):
    loader = batches(7)
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():  # before the first update
        expected = np.mean([loss_of(model, batch).item() for batch in list(loader)[:2]])
    fit(loader, model=model, accumulate_grad_batches=2)
    run = open_run(tmp_path / "run.zarr")
    np.testing.assert_array_equal(run["log/step"], [0, 1, 2, 3])  # 2 + 2 + 2 + 1 batches
    np.testing.assert_array_equal(run["state/step"], [0, 2, 4])
    assert run["log/loss"].values[0] == pytest.approx(expected, rel=1e-6)
    assert run_info(tmp_path / "run.zarr").status == "complete"


@pytest.mark.parametrize("accumulated", [1, 2])
def test_gradients_are_those_of_the_updates(accumulated, fit, tmp_path):
    """It makes them in a closure that it gives to the optimizer's step."""

    class Plain(Net):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.5)

    options = {"model": Plain(), "every": 1, "accumulate_grad_batches": accumulated}
    fit(batches(6), **options)
    state = open_run(tmp_path / "run.zarr")["state"]
    assert len(state["step"]) == 6 // accumulated + 1
    for layer in state.children.values():
        gradient, update = layer["gradient"].values[:-1], layer["update"].values[:-1]
        assert gradient.any(axis=(1, 2)).all()
        np.testing.assert_allclose(gradient, -update / 0.5, rtol=0, atol=1e-6 * abs(gradient).max() + 1e-7)


@pytest.mark.parametrize("averaged", [False, True])
def test_goes_on_from_a_checkpoint_in_the_same_store(averaged, fit, watched, tmp_path):
    def average():
        return [EMAWeightAveraging(decay=0.9)] if averaged else []

    save = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1)
    fit(batches(4), others=[save, *average()], enable_checkpointing=True)
    model = watched()
    fit(batches(4), model=model, epochs=2, resume=tmp_path / "step=4.ckpt", others=average())
    run = open_run(tmp_path / "run.zarr")
    np.testing.assert_array_equal(run["log/step"], range(8))
    np.testing.assert_array_equal(run["state/step"], [0, 2, 4, 6, 8])
    check_weights(run, model, first=6)
    assert run_info(tmp_path / "run.zarr").generation == 1


@pytest.mark.parametrize("name", ["loss", "another"])
def test_two_optimizers_step_together_and_a_batch_may_be_left_out(name, fit, tmp_path):
    loader = batches(4)

    class Twice(Net):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            if batch_idx == 1:
                return None
            loss = loss_of(self, batch)
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()
            return {name: loss.detach()}

        def configure_optimizers(self):
            layers = self.net[1], self.net[3]
            return [torch.optim.SGD(layer.parameters(), lr=0.05) for layer in layers]

    path = tmp_path / "run.zarr"
    trainer = fit(loader, model=Twice(), every=1)
    trainer.save_checkpoint(tmp_path / "at3.ckpt")
    np.testing.assert_array_equal(open_run(path)["state/step"], [0, 1, 2, 3])
    assert trainer.global_step == 6
    fit(loader, model=Twice(), epochs=2, resume=tmp_path / "at3.ckpt", every=1)
    np.testing.assert_array_equal(open_run(path)["state/step"], range(7))
    if name == "loss":
        assert open_run(path)["log/loss"].notnull().all()
    else:
        assert "loss" not in open_run(path)["log"]


def test_run_that_fails_leaves_a_failed_store(fit, tmp_path):
    class Failing(Net):
        def training_step(self, batch, batch_idx):
            if batch_idx == 3:
                raise RuntimeError("no more")
            return super().training_step(batch)

    with pytest.raises(RuntimeError, match="no more"):
        fit(batches(6), model=Failing())
    assert run_info(tmp_path / "run.zarr").status == "failed"
    np.testing.assert_array_equal(open_run(tmp_path / "run.zarr")["log/step"], [0, 1, 2])
