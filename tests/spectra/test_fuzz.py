"""Hostile arrays at every public function: the dense float64 answer, or an error that names the input.

Warnings are errors in this suite, so a warning from inside numpy fails it too.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fadiag import spectra
from fadiag.errors import InputError


def hostile(rng: np.random.Generator) -> np.ndarray:
    shape = tuple(rng.integers(0, 7, rng.choice([1, 2, 2, 2, 2, 3])))
    x = rng.standard_normal(shape) * 10.0 ** rng.integers(-300, 300)
    kind = rng.integers(0, 10)
    if kind == 0:
        return np.full(shape, rng.choice([0.0, 1.0, 5e-324, 1e308, -0.1]))
    if kind == 1 and x.size:
        x.flat[rng.integers(x.size)] = rng.choice([np.nan, np.inf, -np.inf])
    if kind == 2:
        x *= rng.integers(0, 2, shape)
    if kind == 3 and x.ndim == 2:
        x *= 10.0 ** rng.integers(-200, 0, (len(x), 1))
    if kind == 4:
        return rng.integers(-128, 127, shape).astype(
            rng.choice(["int8", "int64", "uint8", "float16", "float32"])
        )
    if kind == 5:
        return x.T[..., ::-1]
    if kind == 6:
        x.setflags(write=False)
    if kind == 7:
        return x * (1 + 1j) if rng.integers(4) == 0 else x
    return x


def unit(x: np.ndarray) -> np.ndarray:
    """Return each matrix with a largest entry of 1."""
    wide = np.asarray(x, np.float64)
    peak = np.abs(wide).max(axis=(-2, -1), keepdims=True)
    return np.divide(wide, peak, out=np.zeros_like(wide), where=peak > 0)


def spectrum(x: np.ndarray) -> np.ndarray:
    return np.linalg.svd(unit(x), compute_uv=False)


def each(function: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], np.ndarray]:
    """Lift a function of one scaled matrix that is not all zeros; zeros have the value 0."""

    def lifted(x: np.ndarray) -> np.ndarray:
        stack = unit(x).reshape(-1, *x.shape[-2:])
        return np.array([function(m) if m.any() else 0.0 for m in stack]).reshape(x.shape[:-2])

    return lifted


def entropy_rank(weights: np.ndarray) -> float:
    q = weights[weights > 0] / weights.sum()
    return float(np.exp(-(q * np.log(q)).sum()))


def svd(m: np.ndarray) -> np.ndarray:
    return np.linalg.svd(m, compute_uv=False)


def flat_cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    shape = np.broadcast_shapes(a.shape, b.shape)
    u, v = (np.broadcast_to(unit(m), shape) for m in (a, b))
    norms = np.sqrt((u * u).sum(axis=(-2, -1)) * (v * v).sum(axis=(-2, -1)))
    dots = (u * v).sum(axis=(-2, -1))
    return np.divide(dots, norms, out=np.full(dots.shape, np.nan), where=norms > 0)


def rows(x: np.ndarray) -> np.ndarray:
    """Take each row for a matrix of its own."""
    return np.asarray(x, np.float64)[..., None, :]


def other(x: np.ndarray) -> np.ndarray:
    """Return an ordinary array of the same shape, of integers without zeros."""
    return np.random.default_rng(x.size).choice([-3.0, -2.0, -1.0, 1.0, 2.0, 3.0], x.shape)


def square(x: np.ndarray) -> np.ndarray:
    """Return an ordinary matrix that a matrix with the columns of x can be multiplied by, on its right."""
    n = x.shape[-1]
    return np.eye(n) + 0.1 * np.random.default_rng(n).standard_normal((n, n))


def normal(x: np.ndarray) -> np.ndarray:
    """Lift subnormal arrays to where a product keeps its digits."""
    return x * 1e30 if x.dtype == np.float64 and 0 < np.abs(x).max(initial=0) < 1e-280 else x


def corners(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two feedbacks that any weight of the shape of x lies between."""
    n, m = x.shape[-2:]
    return np.eye(max(n, m))[:, :n], np.eye(max(n, m))[:, :m]


def debiased(m: np.ndarray) -> float:
    """Average the source's products over two, three and four distinct rows."""
    k = np.asarray(m, np.longdouble) @ np.asarray(m, np.longdouble).T
    if np.ptp(m, axis=0).max() == 0:
        return 0.0
    n, d = len(k), np.diag(k).copy()
    np.fill_diagonal(k, 0.0)
    rows, pairs = k.sum(axis=1), (k * k).sum()
    two, three, four = n * (n - 1), n * (n - 1) * (n - 2), n * (n - 1) * (n - 2) * (n - 3)
    apart = (rows.sum() ** 2 - 4 * (rows**2).sum() + 2 * pairs) / four
    above = (d.sum() ** 2 - (d**2).sum()) / two, -2 * (d * (rows.sum() - 2 * rows)).sum() / three, apart
    below = pairs / two, -2 * ((rows**2).sum() - pairs) / three, apart
    if any(sum(terms) < 1e-11 * (sum(map(abs, terms)) + (d**2).mean()) for terms in (above, below)):
        return -1.0  # so few digits that another answer may be given
    return float(sum(above) / sum(below))


def rounding(x: np.ndarray) -> np.ndarray:
    """Return |2^floor(log2 |x|)| / |x| times 0.5 / sqrt(12), the rounding of x in a type of one bit."""
    wide = np.asarray(x, np.longdouble)
    powers = np.where(wide != 0, np.ldexp(np.longdouble(0.5), np.frexp(wide)[1]), 0)
    norms = [np.sqrt((m * m).sum(axis=(-2, -1))) for m in (powers, wide)]
    return np.asarray(0.5 / np.sqrt(12) * norms[0] / norms[1], np.float64)


def not_told(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.where(truth == -1, -1, found)


@dataclass(frozen=True)
class Case:
    """What is called, what the dense answer is, and which other refusal is right."""

    call: Callable[[np.ndarray], object]
    truth: Callable[[np.ndarray], object]
    also: str = "never"
    rtol: float = 1e-8
    atol: float = 1e-12
    vector: bool = False


CASES = {
    "stable_rank": Case(spectra.stable_rank, each(lambda m: (svd(m) ** 2).sum() / svd(m)[0] ** 2)),
    "participation_ratio": Case(
        spectra.participation_ratio, each(lambda m: (svd(m) ** 2).sum() ** 2 / (svd(m) ** 4).sum())
    ),
    "effective_rank": Case(spectra.effective_rank, each(lambda m: entropy_rank(svd(m))), rtol=2e-6),
    "effective_rank_energy": Case(
        spectra.effective_rank_energy, each(lambda m: entropy_rank(svd(m) ** 2)), rtol=1e-6
    ),
    "effective_samples": Case(
        spectra.effective_samples,
        each(lambda m: (m**2).sum() ** 2 / ((m**2).sum(axis=1) ** 2).sum()),
    ),
    "participation_ratio_debiased": Case(
        spectra.participation_ratio_debiased, each(debiased), "needs at least four rows", rtol=1e-5
    ),
    "singular_values": Case(
        lambda x: spectra.singular_values(x if no_matrix(x) else unit(x)),
        spectrum,
        atol=1e-7,
    ),
    "centered": Case(
        spectra.centered,
        lambda x: np.asarray(x, np.longdouble) - np.asarray(x, np.longdouble).mean(axis=-2, keepdims=True),
        "centered in float64",
        atol=np.inf,
    ),
    "polar_factor": Case(
        lambda x: spectra.stable_rank(spectra.polar_factor(x)),
        lambda x: (spectrum(x) > 1e-6 * spectrum(x)[..., :1]).sum(axis=-1),
    ),
    "cosine": Case(
        lambda x: spectra.cosine(x, other(x)),
        lambda x: flat_cosine(rows(x), rows(other(x))),
        vector=True,
    ),
    "angle": Case(
        lambda x: np.cos(spectra.angle(x, other(x))),
        lambda x: flat_cosine(rows(x), rows(other(x))),
        vector=True,
    ),
    "matrix_cosine": Case(lambda x: spectra.matrix_cosine(x, other(x)), lambda x: flat_cosine(x, other(x))),
    "path_alignment": Case(
        lambda x: spectra.path_alignment([square(x), x], [other(x)]),
        lambda x: flat_cosine(unit(x) @ square(x), other(x)),
    ),
    "direct_weight_cosine": Case(
        lambda x: spectra.direct_weight_cosine(x, np.eye(x.shape[-2]), other(x)),
        lambda x: flat_cosine(x, other(x)),
    ),
    "alignment_matrix": Case(
        lambda x: spectra.alignment_matrix(x, 0 * other(x), *corners(x)).residual,
        lambda x: np.zeros(x.shape[:-2]),
        "the alignment matrix of|weight - weight_init",
        atol=1e-9,
    ),
    "pseudo_backprop": Case(
        lambda x: spectra.matrix_cosine(spectra.pseudo_backprop(normal(x), square(x)), other(x)),
        lambda x: flat_cosine(unit(x) @ np.linalg.inv(square(x)).T, other(x)),
        "delta times the pseudo-inverse",
        atol=1e-8,
    ),
    "update_loss": Case(
        lambda x: spectra.update_loss(x, other(x), 0.1, 0.0),
        lambda x: np.asarray(x, np.float64),
        "update .* x decay",
    ),
    "rounding_floor": Case(lambda x: spectra.rounding_floor(x, x, eps=0.5), rounding),
    "exploration": Case(
        lambda x: spectra.exploration(x[..., None, :]),
        each(lambda m: (svd(m) ** 2).sum() ** 2 / (svd(m) ** 4).sum()),
    ),
    "linear_cka_debiased": Case(
        lambda x: np.abs(np.nan_to_num(spectra.linear_cka_debiased(x, other(x)))) <= 1,
        lambda x: np.ones(x.shape[:-2], bool),
        "needs at least four",
    ),
    "right_basis": Case(
        lambda x: np.linalg.norm(spectra.right_basis(x, 1), axis=(-2, -1)),
        lambda x: np.asarray(x).any(axis=(-2, -1)) * 1.0,
    ),
    "overlap": Case(lambda x: spectra.overlap(x, x, 1), lambda x: np.asarray(x).any(axis=(-2, -1)) * 1.0),
    "overlap_of_bases": Case(
        lambda x: spectra.overlap_of_bases(spectra.right_basis(x, 1), spectra.right_basis(other(x), 1)) <= 1,
        lambda x: np.ones(x.shape[:-2], bool),
    ),
    "principal_angles": Case(
        lambda x: spectra.principal_angles(x, x, 1)[..., 0],
        lambda x: np.zeros(x.shape[:-2]),
        "input has 0 directions",
    ),
    "principal_angles_of_bases": Case(
        lambda x: spectra.principal_angles_of_bases(spectra.right_basis(x, 1), spectra.right_basis(x, 1))[
            ..., 0
        ],
        lambda x: np.zeros(x.shape[:-2]),
        "input has 0 directions",
    ),
    "sign_flipped": Case(
        lambda x: np.abs(spectra.sign_flipped(x, np.random.default_rng(0))),
        lambda x: np.abs(np.asarray(x, np.float64)),
    ),
}
#: Functions of one vector, spectrum or sample; they take any shape that has a last axis.
VECTORS = {
    "stable_rank_of_spectrum": spectra.stable_rank_of_spectrum,
    "participation_ratio_of_spectrum": spectra.participation_ratio_of_spectrum,
    "effective_rank_of_spectrum": spectra.effective_rank_of_spectrum,
    "effective_rank_energy_of_spectrum": spectra.effective_rank_energy_of_spectrum,
    "permuted_cosines": lambda x: spectra.permuted_cosines(x, other(x), 3, np.random.default_rng(0)),
    "p_value": lambda x: spectra.p_value(1.0, x),
    "at_or_above": lambda x: spectra.at_or_above(x, 1.0),
    "cosine_null_p": lambda x: spectra.cosine_null_p(x, 9),
    "cosine_null_quantile": lambda x: spectra.cosine_null_quantile(x, 9),
    "t_interval": spectra.t_interval,
    "paired_t_interval": lambda x: spectra.paired_t_interval(x, other(x)),
    "welch_interval": lambda x: spectra.welch_interval(x, other(x)),
    "crossed_interval": spectra.crossed_interval,
    "max_t_sign_flip": lambda x: spectra.max_t_sign_flip(x, np.random.default_rng(0)),
    "onset": lambda x: spectra.onset(x, 0.0, np.arange(x.shape[0])),
    "onset_threshold": spectra.onset_threshold,
    "kaplan_meier": lambda x: spectra.kaplan_meier(x, np.ones(x.shape, bool)),
}
#: Functions of whole numbers only.
NUMBERS = {"marchenko_pastur", "overlap_moments", "t_quantile"}
NAMES = (
    r"((x|y|s|w|b|a|values|differences|delta|weight|update|updates|feedback|feedback_below|null|true|times"
    r"|cosine|q|an input|onsets|the first|the second)\b|weights\[\d\])"
)


def no_matrix(x: np.ndarray, axes: int = 2) -> bool:
    return x.ndim < axes or 0 in x.shape[-axes:] or x.dtype.kind == "c" or not np.isfinite(x).all()


def refusal(call: Callable[[np.ndarray], object], x: np.ndarray) -> tuple[object, str]:
    """Return what a function found, or why it refused."""
    try:
        return call(x), ""
    except InputError as error:
        return None, str(error)


def check(name: str, x: np.ndarray) -> bool:
    """Return whether the function refused; fail where it was wrong."""
    case = CASES[name]
    bad = no_matrix(x, 1 if case.vector else 2)
    kept = x.copy()
    try:
        found, reason = refusal(case.call, x)
    except (IndexError, ValueError):
        assert bad, (name, x)  # the test's own partner for an array that is no matrix
        return True
    if reason:
        extra = re.search(case.also, reason)
        assert bad or extra, (name, x, reason)
        assert extra or re.match(NAMES, reason), (name, reason)
        return True
    assert not bad, (name, x, found)
    assert np.array_equal(x, kept)
    with np.errstate(all="ignore"):
        truth = np.asarray(case.truth(x))
    if name == "participation_ratio_debiased":
        found = not_told(np.asarray(found), truth)
    if name == "centered":
        peak = np.abs(np.asarray(x, np.float64)).max(axis=(-2, -1), keepdims=True)
        assert (np.abs(found - truth) <= 1e-14 * peak + 5e-324).all(), (x, found)
        return False
    assert_allclose(found, truth, rtol=case.rtol, atol=case.atol, err_msg=f"{name} of {x!r}")
    return False


def check_vector(name: str, x: np.ndarray) -> None:
    found, reason = refusal(VECTORS[name], x)
    assert not reason or re.match(NAMES, reason), (name, reason)
    numbers = found if isinstance(found, tuple) else (found,)
    quiet = not reason and any(np.isnan(np.asarray(n, np.float64)).any() for n in numbers)
    # NaN in, NaN out is the rule of the two laws of chance only.
    assert not quiet or np.isnan(x).any(), (name, x, found)


def fuzz(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    names, vectors = list(CASES), list(VECTORS)
    refused = 0
    for i in range(count):
        x = hostile(rng)
        refused += check(names[i % len(names)], x)
        check_vector(vectors[i % len(vectors)], x)
    assert 0.1 * count < refused < 0.6 * count


def test_every_public_function_is_fuzzed() -> None:
    functions = {n for n in spectra.__all__ if n[0].islower()}
    assert functions == CASES.keys() | VECTORS.keys() | NUMBERS


def test_six_hundred_arrays_give_the_dense_answer_or_an_input_error() -> None:
    fuzz(600, 0)


@pytest.mark.slow
def test_ten_thousand_arrays_give_the_dense_answer_or_an_input_error() -> None:
    fuzz(10_000, 1)
