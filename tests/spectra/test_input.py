"""Hostile input: a right answer, or one error that says which input and why."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fadiag
from fadiag import spectra
from fadiag.errors import InputError

OF_ONE = (
    "singular_values",
    "effective_rank",
    "effective_rank_energy",
    "participation_ratio",
    "participation_ratio_debiased",
    "stable_rank",
    "effective_samples",
    "centered",
)
RANKS = ("effective_rank", "effective_rank_energy", "participation_ratio", "stable_rank", "effective_samples")


@pytest.mark.parametrize("name", OF_ONE)
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(4), r"x has shape \(4,\); it must be \(\.\.\., rows, columns\)"),
        (1.0, r"x has shape \(\)"),
        (np.ones((0, 4)), r"x has shape \(0, 4\); a matrix needs at least one row and one column"),
        (np.ones((2, 3, 0)), r"x has shape \(2, 3, 0\)"),
        (np.ones((2, 2), complex), r"x is complex \(complex128\)"),
        (np.array([["a", "b"]]), "x has dtype <U1; it must hold real numbers"),
        ([[1.0, 2.0], [3.0]], "x is not an array"),
        ([[1.0, np.nan], [np.inf, 0.0]], r"x holds 1 NaN and 1 infinite of 4 values \(first at \(0, 1\)\)"),
    ],
)
def test_what_is_no_matrix_is_refused(name: str, values: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        getattr(spectra, name)(values)


@pytest.mark.parametrize("name", RANKS)
def test_what_is_masked_is_not_measured(name: str) -> None:
    x = np.random.default_rng(0).standard_normal((4, 3))
    with pytest.raises(InputError, match="x is a masked array; fill or drop what is masked"):
        getattr(spectra, name)(np.ma.masked_array(x, mask=x > 0))
    assert getattr(spectra, name)(np.ma.masked_array(x, mask=False)) == getattr(spectra, name)(x)


@pytest.mark.parametrize(
    ("told", "way_out"),
    [
        (
            {"requires_grad": True},
            r"x is not an array: .* grad.*; pass x\.detach\(\)\.cpu\(\)\.numpy\(\)",
        ),
        ({"dtype": "bfloat16"}, r"; pass x\.detach\(\)\.float\(\)\.cpu\(\)\.numpy\(\)"),
    ],
)
def test_a_tensor_that_is_no_array_yet_says_how_it_becomes_one(told: dict[str, Any], way_out: str) -> None:
    torch = pytest.importorskip("torch")
    options = {key: getattr(torch, value) if key == "dtype" else value for key, value in told.items()}
    with pytest.raises(InputError, match=way_out):
        spectra.effective_rank(torch.ones(3, 2, **options))


@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "bool", "float16", ">f4", "longdouble"])
def test_other_real_types_are_converted(name: str, dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 100, (6, 5)).astype(dtype)
    function = getattr(spectra, name)
    assert_allclose(function(x), function(x.astype(np.float64)), rtol=1e-12)


@pytest.mark.parametrize("name", RANKS)
@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e-30, 1e30, 1e160, 1e300])
def test_ranks_do_not_know_the_scale(name: str, scale: float) -> None:
    x = np.random.default_rng(1).standard_normal((6, 5))
    assert_allclose(getattr(spectra, name)(scale * x), getattr(spectra, name)(x), rtol=1e-9)


def test_singular_values_carry_the_scale() -> None:
    x = np.random.default_rng(2).standard_normal((6, 5))
    for scale in (1e-300, 1e-30, 1e30, 1e300):
        assert_allclose(spectra.singular_values(scale * x), scale * spectra.singular_values(x), rtol=1e-12)
    with pytest.raises(InputError, match="a singular value beyond float64's range"):
        spectra.singular_values(np.full((2, 2), 1.7e308))
    with pytest.raises(InputError, match="x, centered in float64, holds"):
        spectra.centered([[1.7e308], [1.7e308], [1.7e308], [-1.7e308]])


@pytest.mark.parametrize("name", OF_ONE)
def test_read_only_and_strided_arrays_are_read_and_left_alone(name: str) -> None:
    base = np.random.default_rng(3).standard_normal((12, 20)).astype(np.float32)
    view = base[::-2, 1::3]
    kept = base.copy()
    base.setflags(write=False)
    function = getattr(spectra, name)
    assert_allclose(function(view), function(view.copy()), rtol=1e-10)
    assert_allclose(function(np.asfortranarray(view)), function(view.copy()), rtol=1e-10)
    assert_allclose(base, kept, rtol=0)


def test_three_rows_have_no_four_distinct_ones() -> None:
    with pytest.raises(InputError, match="needs at least four rows"):
        spectra.participation_ratio_debiased(np.ones((3, 5)))


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        cwd=Path(fadiag.__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_import_compiles_nothing_and_small_input_needs_no_compiler() -> None:
    code = (
        "import sys, numpy as np; from fadiag import spectra;"
        "heavy = {'numba', 'scipy.stats', 'scipy.special', 'scipy.sparse'};"
        "print(sorted(heavy & set(sys.modules)));"
        "x = np.eye(4); spectra.cosine(x, x); spectra.effective_rank(x); spectra.overlap(x, x, 2);"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert run(code).split("\n")[:2] == ["[]", "[]"]


def test_the_kernel_runs_where_no_cache_can_be_written() -> None:
    code = (
        "import numba.core.caching as c\n"
        "def refuse(self, *a): raise OSError('read-only file system')\n"
        "c._CacheLocator.ensure_cache_path = refuse\n"
        "import numpy as np; from fadiag.spectra.linalg.kernels import products\n"
        "print(products(np.ones((1, 3)), np.ones((1, 3))).tolist())"
    )
    assert run(code).strip() == "[[3.0], [3.0], [3.0]]"
