"""The one place that judges an input array: what it is, what is wrong with it, and where."""

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

#: Entries up to 2**128 either way (all of float32) and sums of their fourth powers stay within float64.
_HARMLESS = 128


def as_real(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return a real floating array (float32 and float64 as they are, anything narrower as float64).

    Raises
    ------
    InputError
        For complex numbers, text, objects and ragged lists, for values that are masked, and for a tensor that
        numpy does not take as it is.
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
    # float16 overflows at 256 squared, integers wrap, BLAS takes native order only: float64 for all of them.
    return array if array.dtype in (np.float32, np.float64) and array.dtype.isnative else _widened(array)


def _to_numpy(tensor: Any) -> str:
    """Return the calls that make a tensor an array, where numpy does not take it as it is.

    It may need a gradient, be on another device, sparse, quantized, or of a precision that numpy lacks.
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
    # A long double beyond float64's range becomes an infinity here, which require_finite then names.
    with np.errstate(over="ignore"):
        return array.astype(np.float64)


def require_finite(array: NDArray[Any], name: str) -> None:
    """Raise InputError that counts what is not finite and says where the first one is."""
    # Both ends are finite if and only if all is (NaN passes through), and they cost no array of booleans.
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
    """Return singular values (..., k) in float64: finite, not negative, not empty, in any order."""
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
    """Return a finite float64 array of exactly ``ndim`` axes, for the statistics."""
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
    """Raise InputError where the leading (batch) axes of matrices do not broadcast."""
    lead = {name: array.shape[:-2] for name, array in arrays.items()}
    try:
        np.broadcast_shapes(*lead.values())
    except ValueError:
        told = ", ".join(f"{name} {shape}" for name, shape in lead.items())
        raise InputError(f"leading axes do not broadcast: {told}") from None


def scale_each(array: NDArray[Any]) -> tuple[Floats, NDArray[np.int64]]:
    """Bring the largest entry of each finite matrix (..., rows, columns), by a power of two, to [0.5, 1).

    Returns
    -------
    scaled : array, float64
    exponents : array (..., 1, 1)
        ``ldexp(scaled, exponents)`` is the input; matrices of zeros stay as they are.
    """
    wide = array.astype(np.float64, copy=False)
    exponents = np.frexp(np.abs(wide).max(axis=(-2, -1), keepdims=True))[1].astype(np.int64)
    return np.asarray(np.ldexp(wide, -exponents)), exponents


def scale_exactly(matrix: NDArray[Any]) -> tuple[Floats, int]:
    """Bring a finite array, by a power of two, to where the fourth powers of its entries stay in range.

    Returns
    -------
    scaled : array, float64
        A new array where it had to be scaled or widened; never to be written to. Zeros stay zeros.
    exponent : int
        ``ldexp(scaled, exponent)`` is the input; 0 where the entries are harmless already.
    """
    exponent = int(np.frexp(max(float(matrix.max()), -float(matrix.min())))[1])
    wide = matrix.astype(np.float64, copy=False)
    if abs(exponent) <= _HARMLESS:
        return wide, 0
    # ldexp takes any exponent, where 2.0**exponent would overflow or vanish.
    return np.ldexp(wide, -exponent), exponent
