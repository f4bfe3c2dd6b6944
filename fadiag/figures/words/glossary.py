"""Define in a few words what a caption names."""

import re
from collections.abc import Iterable

__all__ = ["defined"]

#: A term -> its definition. A longer term comes before one that is part of it.
_SPECTRAL = {
    "effective rank of the energy": "exp(−Σ p ln p), p = s²/Σs²",
    "participation ratio, debiased": "(Σs²)²/Σs⁴ estimated for a population of samples",
    "participation ratio, rows normalized": "(Σs²)²/Σs⁴ of rows of length 1",
    "effective rank": "exp(−Σ q ln q), q = s/Σs",
    "participation ratio": "(Σs²)²/Σs⁴",
    "stable rank": "Σs²/max s²",
}
_OTHERS = {
    "effective number of samples": "(Σ|x|²)²/Σ|x|⁴ over rows x",
    "overlap": "|UᵀV|² / k, with bases U and V of the k leading directions",
    "gate null": "central 95 % for credit turned at random before the gates",
    "null of redrawn feedback": "central 95 % for fresh feedback on the same weights and batch",
    "null of a b independent of w": "its central 95 %",
}


def defined(texts: Iterable[str]) -> str:
    """Return one sentence with the definition of each known term in some texts; "" if there is none.

    >>> defined(["Stable rank of the error, raw"])
    'Stable rank Σs²/max s² of singular values s.'
    >>> defined(["accuracy"])
    ''
    """
    text = " ".join(texts).lower()
    spectral, others = [], []
    for name, meaning in _SPECTRAL.items():
        if (found := _where(name, text)) is not None:
            spectral.append(f"{name} {meaning}")
            text = found
    if spectral:
        spectral[-1] += " of singular values s"
    for name, meaning in _OTHERS.items():
        if name in text:
            others.append(f"{name.replace(' b ', ' B ').replace('of w', 'of W')}: {meaning}")
    words = "; ".join([*spectral, *others])
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _where(name: str, text: str) -> str | None:
    """Return the text without a term, which may have its signal inside; None if it is not there."""
    head, _, form = name.partition(", ")
    found = re.compile(f"{head}(?: of the [^.;:,]*)?{f', {form}' if form else ''}")
    return found.sub("", text) if found.search(text) else None
