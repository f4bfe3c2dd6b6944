"""Write a caption as LaTeX."""

from fadiag.results.latex import latex_text

__all__ = ["latex"]


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
    return (
        f"% Put this inside a figure environment: \\input{{{name}}}\n"
        f"\\caption{{{latex_text(text)}}}\n\\label{{fig:{name}}}\n"
    )
