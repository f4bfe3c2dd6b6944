"""Refuse to record sharded models, where each process holds only a part of each weight."""

from torch import Tensor, nn

from fadiag.errors import CaptureError

__all__ = ["check_whole"]


def check_whole(model: nn.Module) -> None:
    """Raise if the parameters of a model are spread over processes.

    The check compares class and attribute names, because importing the sharding libraries is slow.

    Raises
    ------
    CaptureError
        The model or one of its modules is sharded by FSDP (either version), tensor parallelism or DeepSpeed's
        ZeRO.
    """
    for name, module in model.named_modules():
        if type(module).__name__ == "FullyShardedDataParallel":
            what = f"module {name!r}" if name else "the model"
            raise _refusal(f"{what} is a FullyShardedDataParallel")
    for name, parameter in model.named_parameters():
        if (how := _sharded(parameter)) is not None:
            raise _refusal(f"the parameter {name!r} is {how}")


def _sharded(parameter: Tensor) -> str | None:
    if type(parameter.data).__name__ == "DTensor":
        return "a DTensor (fully_shard, tensor parallel)"
    return "partitioned by DeepSpeed" if hasattr(parameter, "ds_id") else None


def _refusal(what: str) -> CaptureError:
    return CaptureError(
        f"{what}: each process holds only a part of each weight, so no layer can be recorded whole; "
        "train the recorded model with DistributedDataParallel or in one process"
    )
