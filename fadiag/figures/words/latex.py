"""Write a caption as LaTeX."""

__all__ = ["latex"]

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


def latex(name: str, caption: str, small_print: str) -> str:
    r"""Return a file for ``\input`` inside a figure environment.

    Examples
    --------
    >>> print(latex("fig1", "FA − BP = 5 %.", ""))
    % Put this inside a figure environment: \input{fig1}
    \caption{FA $-$ BP = 5 \%.}
    \label{fig:fig1}
    <BLANKLINE>
    """
    text = " ".join(filter(None, [caption, small_print]))
    escaped = "".join(_ESCAPES.get(c, c) for c in text)
    return (
        f"% Put this inside a figure environment: \\input{{{name}}}\n"
        f"\\caption{{{escaped}}}\n\\label{{fig:{name}}}\n"
    )
