"""Small runs in the documented tree, in memory or on disk; the devices that tests run on."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import xarray as xr

from fadiag.signals import NULLS
from fadiag.store import ArraySpec, RunWriter

if TYPE_CHECKING:
    import torch

LAYERS = ("fc1", "fc2", "out")
WIDTHS = (12, 10, 4)
INPUTS = 15
SAMPLES = 16
STEPS = (0, 10, 20, 30)


def pytest_configure() -> None:
    """Collection makes a million objects that all stay: the garbage collector need not visit them."""
    import gc

    gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage again, but only among what the tests make."""
    import gc

    gc.freeze()
    gc.enable()


def build_run(
    seed: int = 0,
    *,
    condition: str = "fa",
    steps: tuple[int, ...] = STEPS,
    drop: tuple[str, ...] = (),
    meta: dict[str, Any] | None = None,
    draws: int = 19,
    rows_valid: int = SAMPLES,
) -> xr.DataTree:
    """Return a run of three layers with every stream, from a seed; `drop` leaves signals out."""
    rng = np.random.default_rng(seed)
    count = len(steps)
    clock = {
        "step": ("step", np.asarray(steps, np.int64)),
        "wall_time": ("step", np.arange(count) + 1.7e9),
        "epoch": ("step", np.full(count, np.nan)),
        "rows_valid": ("step", np.full(count, rows_valid)),
    }

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    groups: dict[str, xr.Dataset] = {
        "/probe": xr.Dataset(
            coords=clock,
            attrs={
                "kind": "probe",
                "mode": "eval",
                "samples": SAMPLES,
                "loss_reduction": "mean",
                "split": "test",
            },
        ),
        "/state": xr.Dataset(coords=clock, attrs={"kind": "state"}),
        "/log": xr.Dataset(
            {
                "loss": ("step", np.linspace(2, 1, count)),
                "test_accuracy": ("step", np.linspace(0.1, 0.5, count)),
            },
            coords=clock,
            attrs={"kind": "log"},
        ),
        "/static": xr.Dataset(attrs={"kind": "static"}),
    }
    for order, (name, out) in enumerate(zip(LAYERS, WIDTHS, strict=True)):
        inputs = INPUTS if order == 0 else WIDTHS[order - 1]
        attrs = {
            "name": name,
            "type": "FeedbackLinear",
            "order": order,
            "feedback_kind": "layerwise",
            "out_features": out,
            "in_features": inputs,
        }
        rows = ("step", "sample", "out")
        probe = {
            signal: (rows, normal(count, SAMPLES, out), {"signal": signal, "reduction": "raw"})
            for signal in ("activation", "modulator", "error", "error_bp", "modulator_bp")
        }
        probe |= {s: (("step", "out", "in"), normal(count, out, inputs)) for s in ("gradient", "gradient_bp")}
        for null in NULLS.values():
            for statistic, array in zip(null.statistics, null.arrays, strict=True):
                dims = ("step", *null.dims(statistic))
                shape = (count, draws, min(SAMPLES, out))[: len(dims)]
                values = normal(*shape) if len(dims) < 3 else np.sort(np.abs(normal(*shape)))[..., ::-1]
                values = np.abs(values) + 9 if statistic.startswith("fourth") else values
                probe[array] = (dims, values, {"samples": SAMPLES})
        start = normal(out, inputs)
        update = 0.01 * normal(count, out, inputs)
        weight = start + np.concatenate([np.zeros((1, out, inputs)), np.cumsum(update, 0)])[:count].astype(
            np.float32
        )
        update[-1:] = np.nan
        state = {
            "weight": (("step", "out", "in"), weight),
            "update": (("step", "out", "in"), update),
            "gradient": (("step", "out", "in"), normal(count, out, inputs)),
        }
        static = {"weight_init": (("out", "in"), start), "feedback": (("out", "in"), normal(out, inputs))}
        for stream, arrays in (("probe", probe), ("state", state), ("static", static)):
            kept = {k: v for k, v in arrays.items() if k not in drop and f"{name}/{k}" not in drop}
            groups[f"/{stream}/{name}"] = xr.Dataset(kept, attrs=attrs)
    root = {
        "run_id": f"id-{condition}-{seed}",
        "generation": 0,
        "meta": {"condition": condition, "seed": seed, "rule": "fa", **(meta or {})},
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=root), **groups})


@pytest.fixture(scope="session")
def make_run() -> Callable[..., xr.DataTree]:
    """Return the function that builds a run in memory."""
    return build_run


def record_run(tree: xr.DataTree, path: Path, *, records: int | None = None, resume: bool = False) -> Path:
    """Write a run in memory to a real store, all of it or its first `records`."""
    with RunWriter(path, manifest={"meta": dict(tree.attrs["meta"])}, resume=resume) as writer:
        for stream, node in tree.children.items():
            if stream == "static":
                for layer, leaf in node.children.items():
                    for signal, array in leaf.data_vars.items():
                        writer.put_static(layer, signal, array.values, dims=array.dims)
                continue
            writer.declare_stream(stream, attrs=dict(node.attrs))
            for layer, leaf in node.children.items():
                for signal, array in leaf.data_vars.items():
                    spec = ArraySpec(array.dims[1:], array.shape[1:], array.dtype.name, dict(array.attrs))
                    writer.declare(stream, layer, signal, spec, layer_attrs=dict(leaf.attrs))
            last = writer.last_step(stream)
            for i, step in enumerate(node["step"].values[:records]):
                if last is not None and step <= last:
                    continue
                values = {
                    (layer, signal): array.values[i].copy()
                    for layer, leaf in node.children.items()
                    for signal, array in leaf.data_vars.items()
                }
                scalars = {name: float(v[i]) for name, v in node.data_vars.items()}
                writer.append(stream, int(step), values, extra=scalars)
    return path


@pytest.fixture(scope="session")
def record() -> Callable[..., Path]:
    """Return the function that writes a run in memory to a real store."""
    return record_run


@pytest.fixture
def edit() -> Callable[..., xr.DataTree]:
    """Return a function that writes values into one array of a run, and returns the run."""

    def change(tree: xr.DataTree, path: str, where: Any, value: float) -> xr.DataTree:
        group, _, signal = path.rpartition("/")
        array = tree[group][signal].copy(deep=True)
        array.values[where] = value
        tree[group] = xr.DataTree(
            tree[group].to_dataset(inherit=False).assign({signal: array.drop_vars(array.coords)})
        )
        return tree

    return change


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> "Iterator[torch.device]":
    """Yield a device; a test that takes it runs on each. A GPU computes as exactly as the CPU does."""
    import torch

    if request.param == "cpu":
        yield torch.device("cpu")
        return
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from torch.nn.attention import SDPBackend, sdpa_kernel

    cudnn: Any = torch.backends.cudnn
    kept = cudnn.deterministic, cudnn.conv.fp32_precision
    # The same bits twice, and float32 where a GPU would take TF32.
    cudnn.deterministic, cudnn.conv.fp32_precision = True, "ieee"
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield torch.device("cuda")
    finally:
        cudnn.deterministic, cudnn.conv.fp32_precision = kept
