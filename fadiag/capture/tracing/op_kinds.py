"""Classify torch's operations by their effect on a tensor between one layer and the next."""

import re
from typing import Any, Literal

from torch import Tensor, nn

__all__ = ["MOVES", "Kind", "is_loss", "is_metadata_query", "kind_of", "name_of", "op_of_node"]

#: The operations that move axes.
MOVES = frozenset(
    ("permute", "transpose", "swapaxes", "swapdims", "movedim", "moveaxis", "t", "T", "mT", "adjoint")
)
#: ``gate``: elementwise; its result is h. ``norm``: a normalization. ``join``: elementwise and linear, with
#: another tensor. ``scale``: the same with a number or a parameter. ``pass``: returns the same values in
#: another shape, order or type, or pools them. ``part``: returns some of the values, or adds others to them.
#: ``softmax``: a gate or not, depending on its uses. ``end``: mixes the units, as a layer does, or is a loss.
#: ``unclear``: may be a gate or a piece of one.
Kind = Literal["gate", "norm", "join", "scale", "pass", "part", "softmax", "end", "unclear"]

# The names of torch's functions, without the leading underscore of private functions and without the trailing
# underscore of in-place functions.
_NAMES: dict[Kind, str] = {
    "gate": (
        "relu relu6 leaky_relu elu selu celu gelu silu mish tanh sigmoid expit softplus softsign hardtanh "
        "hardswish hardsigmoid hardshrink softshrink tanhshrink threshold log_sigmoid rrelu prelu clamp "
        "clip clamp_min clamp_max maximum minimum"
    ),
    "norm": (
        "batch_norm layer_norm native_layer_norm group_norm instance_norm rms_norm normalize "
        "local_response_norm sync_batch_norm"
    ),
    "join": (
        "add __add__ __radd__ __iadd__ sub subtract __sub__ __rsub__ rsub __isub__ mul multiply __mul__ "
        "__rmul__ __imul__ div divide true_divide __truediv__ __itruediv__ neg negative __neg__ where "
        "masked_fill"
    ),
    "pass": (
        "reshape view view_as reshape_as flatten unflatten permute transpose swapaxes swapdims movedim "
        "moveaxis t T mT adjoint contiguous squeeze unsqueeze expand expand_as clone alias to type "
        "type_as float double half bfloat16 cpu cuda requires_grad dropout alpha_dropout "
        "feature_alpha_dropout dropout1d dropout2d dropout3d feature_dropout max_pool1d max_pool2d "
        "max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices avg_pool1d "
        "avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d "
        "adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d adaptive_max_pool1d_with_indices "
        "adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices mean sum amax amin max min "
        "cumsum pad pixel_shuffle pixel_unshuffle channel_shuffle interpolate upsample flip roll "
        "backward_hook_function project_error"
    ),
    "part": (
        "__getitem__ chunk split split_with_sizes tensor_split unsafe_chunk unsafe_split unbind select "
        "narrow slice index index_select gather take take_along_dim masked_select diagonal tile repeat "
        "repeat_interleave cat concat concatenate stack hstack vstack dstack column_stack index_add "
        "index_copy index_put scatter scatter_add scatter_reduce masked_scatter copy __setitem__ unfold "
        "fold view_as_complex view_as_real sort topk"
    ),
    "softmax": "softmax log_softmax softmin gumbel_softmax",
    "end": (
        "linear bilinear matmul __matmul__ __rmatmul__ mm bmm mv dot inner outer ger addmm addbmm baddbmm "
        "addmv einsum tensordot kron cdist sparse_mm spmm conv1d conv2d conv3d conv_transpose1d "
        "conv_transpose2d conv_transpose3d convolution conv_tbc scaled_dot_product_attention "
        "multi_head_attention_forward lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell "
        "rnn_relu_cell embedding embedding_bag cosine_similarity pairwise_distance cross_entropy "
        "binary_cross_entropy binary_cross_entropy_with_logits kl_div"
    ),
}
_KINDS: dict[str, Kind] = {name: kind for kind, names in _NAMES.items() for name in names.split()}
_LOSSES = frozenset({"cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div"})
_SMOOTHED = {name.replace("_", "").lower(): name for name in _KINDS}


#: The attributes that describe a tensor without reading its values. Models read them often.
_METADATA: tuple[Any, ...] = (
    Tensor.dtype,
    Tensor.shape,
    Tensor.device,
    Tensor.ndim,
    Tensor.requires_grad,
    Tensor.is_leaf,
    Tensor.layout,
    Tensor.is_cuda,
    Tensor.is_cpu,
    Tensor.is_sparse,
)
_QUERIES = frozenset({*(attribute.__get__ for attribute in _METADATA), Tensor.size, Tensor.dim, Tensor.numel})


def is_metadata_query(function: Any) -> bool:
    """Return whether a function only describes a tensor, without reading its values."""
    return function in _QUERIES


def name_of(function: Any) -> str:
    """Return an operation's name; the function, method and in-place form have the same name."""
    name = str(getattr(function, "__name__", ""))
    if name == "__get__":  # a property, such as Tensor.T
        name = str(getattr(function.__self__, "__name__", ""))
    name = name.partition(".")[0].removeprefix("special_")
    return name if name.startswith("__") else name.strip("_")


def kind_of(name: str) -> Kind:
    """Return the kind of an operation; ``unclear`` if its name is not known."""
    return "end" if is_loss(name) or name.startswith("fft_") else _KINDS.get(name, "unclear")


def is_loss(name: str) -> bool:
    """Return whether an operation is a loss."""
    return name.endswith("_loss") or name in _LOSSES


def op_of_node(node: Any) -> tuple[str, Kind]:
    """Return the name and kind of an operation from its node in autograd's graph.

    This is for operations that torch does not report: autograd functions, scripted functions, and the views
    made by a module's backward hooks. An operation with a matrix of parameters is a layer. Most others are
    known only if they are torch's own and have a single input.
    """
    inputs = [parent for parent, _ in node.next_functions if parent is not None]
    parameters = [parent.variable for parent in inputs if hasattr(parent, "variable")]
    plain = re.sub(r"Backward\d*$", "", node.name().rpartition("::")[2])
    name = _SMOOTHED.get(plain.lower(), plain)
    if any(isinstance(p, nn.Parameter) and p.dim() > 1 for p in parameters):
        return name, "end"
    kind = kind_of(name)
    one = len(inputs) - len(parameters) == 1
    return name, kind if kind in {"pass", "norm"} or (kind in {"gate", "part"} and one) else "unclear"
