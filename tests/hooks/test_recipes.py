"""The recipes: each leaves a store that reads, counts updates (not batches), and ends it on a failure."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from fadiag.store import open_run, run_info

HOOKS = Path(__file__).parents[2] / "hooks"

pytestmark = [
    pytest.mark.slow,
    # Lightning and transformers warn of themselves and of what they find on the machine.
    pytest.mark.filterwarnings("ignore"),
]


def launched(recipe, out, *options, launcher=()):
    command = [sys.executable, *launcher, HOOKS / recipe, "--out", out, *options]
    paths = os.pathsep.join([str(HOOKS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    return out


def module_of(recipe, needs):
    pytest.importorskip(needs)
    spec = importlib.util.spec_from_file_location(recipe, HOOKS / f"{recipe}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_plain_loop(tmp_path):
    run = open_run(launched("plain_loop.py", tmp_path) / "run.zarr")
    assert run["log/loss"].values[-10:].mean() < run["log/loss"].values[:10].mean()
    np.testing.assert_array_equal(run["probe/step"], [0, 20, 40, 60, 80, 84])


def test_foreign_fa_library(tmp_path):
    pytest.importorskip("biotorch.layers.frsf")
    run = open_run(launched("foreign_fa_library.py", tmp_path) / "run.zarr")
    feedback, weight = run["state/0/feedback"].values, run["state/0/weight"].values
    np.testing.assert_array_equal(np.sign(feedback), np.sign(weight))


def test_foreign_fa_library_that_is_missing_is_told(tmp_path):
    (tmp_path / "biotorch.py").write_text("raise ImportError('not here')\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{HOOKS.parent}"}
    done = subprocess.run(
        [sys.executable, HOOKS / "foreign_fa_library.py", "--out", tmp_path / "out"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "this recipe needs biotorch (not here): pip install --no-deps biotorch==0.0.16"
    )


def lightning_run(module, path, loader, *, epochs=1, model=None, resume=None, every=2, **options):
    record = module.Record(path, every=every)
    trainer = module.lightning.Trainer(
        max_epochs=epochs, callbacks=[record], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, **options,
    )  # fmt: skip
    trainer.fit(model or module.Digits(), loader, ckpt_path=resume, weights_only=False)
    return trainer


def batches(count):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(8 * count, 1, 8, 8, generator=generator), torch.arange(8 * count) % 10
    return DataLoader(TensorDataset(x, y), batch_size=8)


def test_lightning_steps_are_updates_and_their_loss_is_of_all_accumulated_batches(tmp_path):
    module, loader = module_of("lightning_callback", "lightning"), batches(7)
    torch.manual_seed(0)
    model = module.Digits()
    with torch.no_grad():  # before the first update
        expected = np.mean([module.loss_of(model, batch).item() for batch in list(loader)[:2]])
    lightning_run(module, tmp_path / "run.zarr", loader, model=model, accumulate_grad_batches=2)
    run = open_run(tmp_path / "run.zarr")
    np.testing.assert_array_equal(run["log/step"], [0, 1, 2, 3])  # 2 + 2 + 2 + 1 batches
    np.testing.assert_array_equal(run["state/step"], [0, 2, 4])
    assert run["log/loss"].values[0] == pytest.approx(expected, rel=1e-6)
    assert run_info(tmp_path / "run.zarr").status == "complete"


@pytest.mark.parametrize("accumulated", [1, 2])
def test_lightning_gradients_are_those_of_the_updates(accumulated, tmp_path):
    """It makes them in a closure that it gives to the optimizer's step."""
    module = module_of("lightning_callback", "lightning")

    class Plain(module.Digits):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.5)

    options = {"model": Plain(), "every": 1, "accumulate_grad_batches": accumulated}
    lightning_run(module, tmp_path / "run.zarr", batches(6), **options)
    state = open_run(tmp_path / "run.zarr")["state"]
    assert len(state["step"]) == 6 // accumulated + 1
    for layer in state.children.values():
        gradient, update = layer["gradient"].values[:-1], layer["update"].values[:-1]
        assert gradient.any(axis=(1, 2)).all()
        np.testing.assert_allclose(gradient, -update / 0.5, rtol=0, atol=1e-6 * abs(gradient).max() + 1e-7)


def test_lightning_goes_on_from_a_checkpoint_in_the_same_store(tmp_path):
    module, loader = module_of("lightning_callback", "lightning"), batches(4)
    trainer = lightning_run(module, tmp_path / "run.zarr", loader)
    trainer.save_checkpoint(tmp_path / "at4.ckpt")
    lightning_run(module, tmp_path / "run.zarr", loader, epochs=2, resume=tmp_path / "at4.ckpt")
    run = open_run(tmp_path / "run.zarr")
    np.testing.assert_array_equal(run["log/step"], range(8))
    np.testing.assert_array_equal(run["state/step"], [0, 2, 4, 6, 8])
    assert run_info(tmp_path / "run.zarr").generation == 1


def test_lightning_two_optimizers_step_together_and_a_batch_may_be_left_out(tmp_path):
    module, loader = module_of("lightning_callback", "lightning"), batches(4)

    class Twice(module.Digits):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            if batch_idx == 1:
                return None
            loss = module.loss_of(self, batch)
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
                optimizer.zero_grad()
            return {"loss": loss.detach()}

        def configure_optimizers(self):
            layers = self.net[1], self.net[3]
            return [torch.optim.SGD(layer.parameters(), lr=0.05) for layer in layers]

    path = tmp_path / "run.zarr"
    trainer = lightning_run(module, path, loader, model=Twice(), every=1)
    trainer.save_checkpoint(tmp_path / "at3.ckpt")
    np.testing.assert_array_equal(open_run(path)["state/step"], [0, 1, 2, 3])
    assert trainer.global_step == 6
    lightning_run(module, path, loader, model=Twice(), epochs=2, resume=tmp_path / "at3.ckpt", every=1)
    np.testing.assert_array_equal(open_run(path)["state/step"], range(7))
    assert open_run(path)["log/loss"].notnull().all()


def test_lightning_run_that_fails_leaves_a_failed_store(tmp_path):
    module = module_of("lightning_callback", "lightning")

    class Failing(module.Digits):
        def training_step(self, batch, batch_idx):
            if batch_idx == 3:
                raise RuntimeError("no more")
            return super().training_step(batch)

    with pytest.raises(RuntimeError, match="no more"):
        lightning_run(module, tmp_path / "run.zarr", batches(6), model=Failing())
    assert run_info(tmp_path / "run.zarr").status == "failed"
    np.testing.assert_array_equal(open_run(tmp_path / "run.zarr")["log/step"], [0, 1, 2])


def test_hugging_face_trainer(tmp_path):
    module_of("hf_trainer", "accelerate")
    run = open_run(launched("hf_trainer.py", tmp_path) / "run.zarr")
    np.testing.assert_array_equal(run["state/step"], [0, 20, 40])
    np.testing.assert_array_equal(run["log/step"], [10, 20, 30, 40])
    layer = run["state/vit.layers.0.attention.q_proj"]
    assert np.isfinite(layer["gradient"][:2]).all()  # seen inside accelerate's optimizer
    assert np.isfinite(layer["momentum"][:2]).all()


def test_torchrun(tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    out = launched("torchrun_ddp.py", tmp_path, launcher=launcher)
    run = open_run(out / "run.zarr")
    np.testing.assert_array_equal(run["probe/step"], [0, 20, 40])
    assert run["live/1/error"].sizes["sample"] == 64  # rank 0's own share of each batch
    assert [path.name for path in out.rglob("*.zarr")] == ["run.zarr"]


def test_torchrun_recipe_runs_alone(tmp_path):
    assert open_run(launched("torchrun_ddp.py", tmp_path) / "run.zarr")["live/1/error"].shape[1] == 64
