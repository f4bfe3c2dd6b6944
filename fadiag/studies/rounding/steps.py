"""Orthogonalize a gradient in bfloat16, float32, float64 and exactly, and make a placebo of random steps."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fadiag import spectra
from fadiag.training.optimizers.muon import newton_schulz

__all__ = ["FLOOR", "METHODS", "Placebo", "Space", "placebo_of", "steps_of"]

Floats = NDArray[np.float64]

#: Singular values of a gradient below this share of the largest are rounding, as in Muon's polar factor.
FLOOR = 1e-6
#: The methods without the placebo.
METHODS = ("bf16", "float32", "float64", "polar")
_DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}
#: The placebo's scale is found by so many bisections of an interval of length `_LARGEST`.
_BISECTIONS, _LARGEST = 12, 2.0


@dataclass(frozen=True)
class Space:
    """The singular directions of a gradient above its rounding floor, with all its singular values.

    Examples
    --------
    >>> space = Space.of(np.diag([2.0, 1.0, 1e-9]))
    >>> space.rank, space.polar.round(6).diagonal().tolist()
    (2, [1.0, 1.0, 0.0])
    """

    left: Floats
    right: Floats
    spectrum: Floats

    @classmethod
    def of(cls, gradient: Floats) -> "Space":
        """Return the space of a matrix, from its singular value decomposition in float64."""
        left, spectrum, right = np.linalg.svd(gradient.astype(np.float64), full_matrices=False)
        kept = spectrum > FLOOR * spectrum[0]
        return cls(left[:, kept], right[kept].T, spectrum)

    @property
    def rank(self) -> int:
        """The numerical rank: how many singular values are above the floor."""
        return int(self.left.shape[1])

    @property
    def polar(self) -> Floats:
        """The exact polar factor of these directions."""
        factor: Floats = self.left @ self.right.T
        return factor

    def outside(self, matrix: Floats) -> Floats:
        """Return a matrix less its projection on the column and the row space."""
        rest: Floats = matrix - self.left @ (self.left.T @ matrix @ self.right) @ self.right.T
        return rest


@dataclass(frozen=True)
class Placebo:
    """The exact polar factor plus random orthonormal directions, scaled to a chosen effective rank.

    Examples
    --------
    >>> Placebo(np.eye(2), scale=0.0).step(np.ones((2, 2))).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    polar: Floats
    scale: float

    def directions(self, rng: np.random.Generator) -> Floats:
        """Draw directions: a Haar-random matrix all of whose singular values are one."""
        rows, columns = self.polar.shape
        q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q = q * np.sign(np.diag(r))
        found: Floats = q if rows >= columns else q.T
        return found

    def step(self, directions: Floats) -> Floats:
        """Return the step with these directions."""
        return self.polar + self.scale * directions


def steps_of(gradient: Floats, space: Space) -> dict[str, Floats]:
    """Return the step that each method makes of a gradient, before any learning rate.

    Examples
    --------
    >>> gradient = np.diag([3.0, 1.0])
    >>> list(steps_of(gradient, Space.of(gradient)))
    ['bf16', 'float32', 'float64', 'polar']
    """
    batch = torch.from_numpy(gradient)[None]
    found = {name: newton_schulz(batch, dtype)[0].double().numpy() for name, dtype in _DTYPES.items()}
    return {**found, "polar": space.polar}


def placebo_of(space: Space, effective_rank: float, rng: np.random.Generator) -> Placebo:
    """Return the placebo of an effective rank (of the energy); its scale is 0 if the polar factor has more.

    The random directions are Haar over the whole matrix space. Their scale is found by bisection with one
    draw; the effective rank of others differs by a few per cent at most.
    """
    polar = space.polar
    if space.rank >= effective_rank:
        return Placebo(polar, 0.0)
    directions = Placebo(polar, 0.0).directions(rng)
    low, high = 0.0, _LARGEST
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        rank = spectra.effective_rank_energy(Placebo(polar, middle).step(directions))
        low, high = (middle, high) if rank < effective_rank else (low, middle)
    return Placebo(polar, high)
