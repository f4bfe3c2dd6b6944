"""Test that a model that is split over several processes is refused, with the reason."""

import subprocess
import sys
import textwrap

import pytest
from torch import nn

from fadiag.capture import Recorder
from fadiag.errors import CaptureError

_SHARDED = """
    import os, torch
    from torch import distributed, nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module
    import fadiag

    class Trained(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

    def model():
        return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    wrapped = FullyShardedDataParallel(model(), device_id=torch.device("cpu"))
    for sharded in (
        fully_shard(model(), mesh=mesh),
        parallelize_module(model(), mesh, {"1": ColwiseParallel()}),
        wrapped,
        Trained(wrapped),
    ):
        try:
            fadiag.Recorder(sharded, "run.zarr")
        except fadiag.errors.CaptureError as error:
            print(error, flush=True)
    os._exit(0)  # gloo's threads may be at work still
"""


def test_a_sharded_model(tmp_path):
    # In a process of its own: the group's threads stay there.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_SHARDED)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    why = (
        ": each process holds only a part of each weight, so no layer can be recorded whole; "
        "train the recorded model with DistributedDataParallel or in one process"
    )
    assert done.stdout.splitlines() == [
        f"the parameter '0.weight' is a DTensor (fully_shard, tensor parallel){why}",
        f"the parameter '1.weight' is a DTensor (fully_shard, tensor parallel){why}",
        f"the model is a FullyShardedDataParallel{why}",
        f"module 'inner' is a FullyShardedDataParallel{why}",
    ], done.stderr
    assert not list(tmp_path.iterdir())


def test_a_partitioned_parameter(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].weight.ds_id = 0  # what DeepSpeed's ZeRO-3 marks its parameters with
    with pytest.raises(CaptureError, match=r"the parameter '0.weight' is partitioned by DeepSpeed: each"):
        Recorder(model, tmp_path / "run.zarr")
