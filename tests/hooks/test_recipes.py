"""Each recipe runs as a script and leaves a store that can be read."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fadiag.store import open_run

HOOKS = Path(__file__).parents[2] / "hooks"

pytestmark = pytest.mark.slow


def launched(recipe, out, *options, launcher=()):
    command = [sys.executable, *launcher, HOOKS / recipe, "--out", out, *options]
    paths = os.pathsep.join([str(HOOKS.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(out.glob(f"{RECIPES[recipe]}.p*"))
    return out


RECIPES = {
    "adapter.py": "credit_cosine",
    "compiled_amp.py": "update_chain",
    "convnet.py": "rank_by_depth",
    "foreign_fa_library.py": "credit_cosine",
    "hf_trainer.py": "alignment_over_training",
    "lightning_callback.py": "credit_cosine",
    "own_model.py": "rank_by_depth",
    "plain_loop.py": "layer_step_heatmap",
    "saved_checkpoints.py": "alignment_over_training",
    "torchrun_ddp.py": "rank_over_training",
}


def test_every_recipe_is_run_here():
    assert {path.name for path in HOOKS.glob("*.py")} == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_short_and_names_its_figure(recipe):
    source = (HOOKS / recipe).read_text()
    assert len(source.splitlines()) < 60
    assert f"\nFigure: ``{RECIPES[recipe]}.p" in source.split('"""')[1]
    assert f"](images/{Path(recipe).stem}.png)" in (HOOKS.parent / "docs/attach.md").read_text()


def test_plain_loop(tmp_path):
    run = open_run(launched("plain_loop.py", tmp_path) / "run.zarr")
    assert run["log/loss"].values[-10:].mean() < run["log/loss"].values[:10].mean()
    np.testing.assert_array_equal(run["probe/step"], [0, 20, 40, 60, 80, 84])


def test_compiled_amp(tmp_path):
    run = open_run(launched("compiled_amp.py", tmp_path) / "run.zarr")
    error = run["probe/3/error"].values
    np.testing.assert_array_equal(error, torch.tensor(error).bfloat16().float())  # the passes of autocast
    assert run["probe/3"].attrs["error_bp_check"] == "passed"
    assert run["log/loss"].values[-10:].mean() < run["log/loss"].values[:10].mean()


def test_convnet(tmp_path):
    run = open_run(launched("convnet.py", tmp_path) / "fa.zarr")
    layers = list(run["probe"].children.values())
    assert len(layers) == 21
    assert {layer.attrs["error_bp_check"] for layer in layers} == {"passed"}
    assert all("error_row_moments" in layer for layer in layers)  # stored with a factor


def test_adapter(tmp_path):
    run = open_run(launched("adapter.py", tmp_path) / "run.zarr")
    checks = {run[f"probe/{name}"].attrs["error_bp_check"] for name in ("1", "3", "5")}
    assert checks == {"passed"}
    assert not np.allclose(run["probe/1/error"], run["probe/1/error_bp"])


def test_own_model(tmp_path):
    out = launched("own_model.py", tmp_path)
    for rule in ("bp", "fa"):
        run = open_run(out / f"{rule}.zarr")
        assert run["log/validation_accuracy"].dropna("step")[-1] > 0.5
        np.testing.assert_array_equal(run["probe/step"], [0, 80, 160, 240])


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


def test_saved_checkpoints(tmp_path):
    out = tmp_path / "out"
    run = open_run(launched("saved_checkpoints.py", out) / "run.zarr")
    np.testing.assert_array_equal(run["probe/step"], range(0, 201, 20))
    np.testing.assert_array_equal(run["state/step"], range(0, 201, 20))
    for step in (0, 20, 200):
        saved = torch.load(out / f"{step}.pt")
        np.testing.assert_array_equal(run["state/3/weight"].sel(step=step), saved["3.weight"])
    np.testing.assert_array_equal(run["static/3/feedback"], saved["3.feedback"])


def test_hugging_face_trainer(tmp_path):
    pytest.importorskip("accelerate")
    run = open_run(launched("hf_trainer.py", tmp_path) / "run.zarr")
    np.testing.assert_array_equal(run["state/step"], [0, 20, 40, 60, 80])
    np.testing.assert_array_equal(run["log/step"], range(10, 81, 10))
    layer = run["state/vit.layers.0.attention.q_proj"]
    assert np.isfinite(layer["gradient"][:2]).all()  # seen inside accelerate's optimizer
    assert np.isfinite(layer["momentum"][:2]).all()


def test_lightning(tmp_path):
    pytest.importorskip("lightning")
    run = open_run(launched("lightning_callback.py", tmp_path) / "run.zarr")
    np.testing.assert_array_equal(run["probe/step"], [*range(0, 84, 10), 84])
    assert np.isfinite(run["log/loss"]).all()


def test_torchrun(tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    out = launched("torchrun_ddp.py", tmp_path, launcher=launcher)
    run = open_run(out / "run.zarr")
    np.testing.assert_array_equal(run["live/step"], range(0, 80, 10))
    assert run["live/1/error"].sizes["sample"] == 64  # rank 0's own share of each batch
    assert [path.name for path in out.rglob("*.zarr")] == ["run.zarr"]
