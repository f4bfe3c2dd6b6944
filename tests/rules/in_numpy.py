"""Convolutions and their backward passes in plain numpy: the equations that the layers are held to."""

from collections.abc import Iterator
from itertools import product

import numpy as np

_MODES = {"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}

Array = np.ndarray


def conv(x: Array, W: Array, b: Array | None, *, stride, padding, dilation, groups, mode="zeros") -> Array:
    """Return the convolution of (sample, channel, *space) with a kernel (out, in / groups, *kernel)."""
    padded = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], mode=_MODES[mode])
    out = 0
    for at, window in _windows(padded, W.shape[2:], stride, dilation):
        parts = np.split(window, groups, axis=1), np.split(W[(..., *at)], groups)
        out = out + np.concatenate(
            [np.einsum("nc...,oc->no...", a, w) for a, w in zip(*parts, strict=True)], 1
        )
    return out if b is None else out + b.reshape(-1, *[1] * (x.ndim - 2))


def conv_backward(
    x: Array, delta: Array, B: Array, *, stride, padding, dilation, groups, mode="zeros"
) -> tuple[Array, Array]:
    """Return the input's gradient with B in the weight's place, and the weight's gradient."""
    widths = [(0, 0), (0, 0), *((p, p) for p in padding)]
    padded = np.pad(x, widths, mode=_MODES[mode])
    to_padded, to_weight = np.zeros_like(padded), np.zeros_like(B)
    errors = np.split(delta, groups, axis=1)
    windows = zip(
        _windows(padded, B.shape[2:], stride, dilation),
        _windows(to_padded, B.shape[2:], stride, dilation),
        strict=True,
    )
    for (at, window), (_, below) in windows:
        kernels, inputs = np.split(B[(..., *at)], groups), np.split(window, groups, axis=1)
        sent = [np.einsum("no...,oc->nc...", e, k) for e, k in zip(errors, kernels, strict=True)]
        below[...] += np.concatenate(sent, axis=1)
        products = [np.einsum("no...,nc...->oc...", e, a) for e, a in zip(errors, inputs, strict=True)]
        to_weight[(..., *at)] = np.concatenate(products).sum(tuple(range(2, x.ndim)))
    # The adjoint of the padding adds each entry of the frame to the entry that it copies.
    places = np.arange(x.size).reshape(x.shape)
    index = np.pad(places, widths, mode=_MODES[mode])
    if mode == "zeros":
        index[np.pad(np.zeros(x.shape, bool), widths, constant_values=True)] = x.size
    to_input = np.zeros(x.size + 1)
    np.add.at(to_input, index.ravel(), to_padded.ravel())
    return to_input[:-1].reshape(x.shape), to_weight


def _windows(padded: Array, kernel, stride, dilation) -> Iterator[tuple[tuple[int, ...], Array]]:
    """Yield each position of the kernel, and the entries that it multiplies, as a view."""
    sizes = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, s, d in zip(padded.shape[2:], kernel, stride, dilation, strict=True)
    ]
    for at in product(*map(range, kernel)):
        cut = [
            slice(d * i, d * i + s * (count - 1) + 1, s)
            for i, s, d, count in zip(at, stride, dilation, sizes, strict=True)
        ]
        yield at, padded[(slice(None), slice(None), *cut)]
