"""Write texts for LaTeX."""

__all__ = ["latex_text"]

_ESCAPES = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "±": r"$\pm$",
    "°": r"$^\circ$",
    "…": r"\ldots{}",
    "Σ": r"$\Sigma$",
    "²": "$^2$",
    "⁴": "$^4$",
    "ρ": r"$\rho$",
    "ᵀ": r"$^\top$",
    "`": "'",
}


def latex_text(text: str) -> str:
    r"""Return a text in which LaTeX sees no commands.

    Examples
    --------
    >>> print(latex_text("fa_slow − 5 %"))
    fa\_slow $-$ 5 \%
    """
    return "".join(_ESCAPES.get(c, c) for c in text)
