"""Check input arrays, scale them safely, and report the position of an invalid value."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fadiag.errors import InputError

__all__ = [
    "as_count",
    "as_matrices",
    "as_real",
    "as_sample",
    "as_share",
    "as_spectra",
    "require_finite",
    "require_one_stack",
    "scale_each",
    "scale_exactly",
    "unit_peak",
]

Floats = NDArray[np.float64]

#: With entries from 2**-128 to 2**128 (all of float32), sums of fourth powers stay in float64's range.
_HARMLESS = 128


def as_real(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return a real floating array: float32 and float64 unchanged, other types as float64.

    Raises
    ------
    InputError
        The values are complex numbers, text, objects, a ragged list or masked, or a tensor that numpy cannot
        convert.
    """
    if np.ma.is_masked(values):
        raise InputError(f"{name} is a masked array; fill or drop what is masked")
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        way_out = f"; pass {name}{_to_numpy(values)}" if hasattr(values, "detach") else ""
        raise InputError(f"{name} is not an array: {str(error).rstrip('. ')}{way_out}") from None
    if array.dtype.kind == "c":
        raise InputError(f"{name} is complex ({array.dtype}); pass its real part or its modulus")
    if array.dtype.kind == "O" and hasattr(values, "toarray"):
        raise InputError(f"{name} is a sparse {type(values).__name__}; pass {name}.toarray()")
    if array.dtype.kind not in "fiub":
        raise InputError(f"{name} has dtype {array.dtype}; it must hold real numbers")
    # float16 overflows at 256 squared, integers wrap, and BLAS needs native byte order. Convert all of them.
    return array if array.dtype in (np.float32, np.float64) and array.dtype.isnative else _widened(array)


def _to_numpy(tensor: Any) -> str:
    """Return the calls that turn a tensor into an array, for a tensor that numpy cannot convert.

    The tensor may require a gradient, be on another device, be sparse or quantized, or have a dtype that
    numpy lacks.
    """
    kind = str(tensor.dtype)
    return "".join(
        (
            ".detach()",
            "" if str(tensor.layout) == "torch.strided" else ".to_dense()",
            ".dequantize()" if tensor.is_quantized else "",
            ".float()" if "bfloat" in kind or "float8" in kind else "",
            ".cpu().numpy()",
        )
    )


def _widened(array: NDArray[Any]) -> Floats:
    # A long double beyond float64's range becomes an infinity here, and require_finite then reports it.
    with np.errstate(over="ignore"):
        return array.astype(np.float64)


def require_finite(array: NDArray[Any], name: str) -> None:
    """Raise InputError with the count of non-finite values and the position of the first."""
    # min and max are finite only if every value is, since NaN propagates. They need no boolean array.
    if array.size == 0 or (np.isfinite(array.min()) and np.isfinite(array.max())):
        return
    finite = np.isfinite(array)
    nan, bad = int(np.isnan(array).sum()), int(array.size - np.count_nonzero(finite))
    first = tuple(int(i) for i in np.argwhere(~finite)[0])
    raise InputError(
        f"{name} holds {nan} NaN and {bad - nan} infinite of {array.size:,} values (first at {first}); "
        "leave them out or repair them first"
    )


def as_matrices(values: ArrayLike, name: str = "x") -> NDArray[Any]:
    """Return an array (..., rows, columns) that is real, finite and not empty."""
    array = as_real(values, name)
    if array.ndim < 2:
        raise InputError(f"{name} has shape {array.shape}; it must be (..., rows, columns)")
    if 0 in array.shape[-2:]:
        raise InputError(f"{name} has shape {array.shape}; a matrix needs at least one row and one column")
    require_finite(array, name)
    return array


def as_spectra(values: ArrayLike, name: str = "s") -> Floats:
    """Return singular values (..., k) in float64: finite, not negative and not empty, in any order."""
    array = as_real(values, name)
    if array.ndim < 1 or array.shape[-1] == 0:
        raise InputError(f"{name} has shape {array.shape}; it must be (..., k), k at least 1")
    require_finite(array, name)
    if (array < 0).any():
        raise InputError(f"{name} holds {int((array < 0).sum())} negative singular values")
    return array.astype(np.float64)


def unit_peak(s: Floats) -> Floats:
    """Divide spectra (..., k) by their largest value, so that no sum or square leaves float64's range."""
    peak = s.max(axis=-1, keepdims=True)
    return np.asarray(np.divide(s, peak, out=np.zeros_like(s), where=peak > 0))


def as_sample(values: ArrayLike, name: str, ndim: int = 1) -> Floats:
    """Return a finite float64 array with exactly ``ndim`` axes."""
    array = as_real(values, name)
    if array.ndim != ndim:
        raise InputError(f"{name} has shape {array.shape}; it must have {ndim} axes")
    require_finite(array, name)
    return array.astype(np.float64)


def as_count(value: int, name: str, low: int, high: int | None = None) -> int:
    """Return a whole number between two bounds."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise InputError(f"{name} is {value!r}; it must be a whole number")
    if value < low or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise InputError(f"{name} is {value}; it must be {bounds}")
    return int(value)


def as_share(value: float, name: str) -> float:
    """Return a number of at least 0 and below 1."""
    share = as_real(value, name)
    if share.ndim != 0 or not 0 <= float(share) < 1:
        raise InputError(f"{name} is {value!r}; it must be one number, at least 0 and below 1")
    return float(share)


def require_one_stack(**arrays: NDArray[Any]) -> None:
    """Raise InputError if the leading (batch) axes of matrices do not broadcast."""
    lead = {name: array.shape[:-2] for name, array in arrays.items()}
    try:
        np.broadcast_shapes(*lead.values())
    except ValueError:
        shapes = ", ".join(f"{name} {shape}" for name, shape in lead.items())
        raise InputError(f"leading axes do not broadcast: {shapes}") from None


def scale_each(array: NDArray[Any]) -> tuple[Floats, NDArray[np.int64]]:
    """Scale each finite matrix by a power of two, so that its largest entry is in [0.5, 1).

    Returns
    -------
    scaled : array, float64
    exponents : array (..., 1, 1)
        ``ldexp(scaled, exponents)`` is the input; matrices of zeros do not change.
    """
    wide = array.astype(np.float64, copy=False)
    exponents = np.frexp(np.abs(wide).max(axis=(-2, -1), keepdims=True))[1].astype(np.int64)
    return np.asarray(np.ldexp(wide, -exponents)), exponents


def scale_exactly(matrix: NDArray[Any]) -> tuple[Floats, int]:
    """Scale a finite array by a power of two, so that fourth powers of its entries stay in range.

    Returns
    -------
    scaled : array, float64
        The input itself if it needs no scaling and no widening, so never write to it. Zeros stay zeros.
    exponent : int
        ``ldexp(scaled, exponent)`` is the input; 0 if the input needed no scaling.
    """
    exponent = int(np.frexp(max(float(matrix.max()), -float(matrix.min())))[1])
    wide = matrix.astype(np.float64, copy=False)
    if abs(exponent) <= _HARMLESS:
        return wide, 0
    # ldexp accepts any exponent; 2.0**exponent would overflow or underflow.
    return np.ldexp(wide, -exponent), exponent
