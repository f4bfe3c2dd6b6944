"""Several is an option that takes several words: ``--conditions bp fa``."""

from collections.abc import Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

__all__ = ["Several", "TakesSeveral", "open_option"]

_WORDS = "fadiag.cli.several"


class Several(click.Option):
    """An option whose values are all words up to the next option; it may also be repeated."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **(options | {"multiple": True}))


class TakesSeveral(click.Command):
    """A command with options of the class `Several`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat each such option before each of its words, as click reads them."""
        ctx.meta[_WORDS] = list(args)
        options = {name for each in self._several() for name in each.opts}
        spread, took = _spread(self._complete_options(args) if ctx.resilient_parsing else args, options)
        try:
            return super().parse_args(ctx, spread)
        except click.MissingParameter as error:
            if took and isinstance(error.param, click.Argument):
                raise click.UsageError(
                    f"{error.param.make_metavar(ctx)} is missing: {took} takes all words up to the next "
                    "option, so put it last",
                    ctx,
                ) from None
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete another word of an open option, else the names of the options."""
        found = open_option(ctx)
        if found is not None and not incomplete.startswith("-"):
            return found.shell_complete(ctx, incomplete)
        return super().shell_complete(ctx, incomplete)

    def _complete_options(self, args: list[str]) -> list[str]:
        """Return the words without an option at the end that lacks a value; click would drop them all."""
        for option in self.params:
            for count in range(1, option.nargs + 1):
                takes = isinstance(option, click.Option) and not option.is_flag and len(args) >= count
                if takes and args[-count] in option.opts:
                    return args[:-count]
        return args

    def _several(self) -> list[Several]:
        return [each for each in self.params if isinstance(each, Several)]


def open_option(ctx: click.Context) -> Several | None:
    """Return the option that takes the next word of an incomplete command, if it is a `Several`."""
    last = next((word for word in reversed(ctx.meta.get(_WORDS, [])) if word.startswith("-")), None)
    return next(
        (each for each in ctx.command.params if isinstance(each, Several) and last in each.opts), None
    )


def _spread(args: Sequence[str], options: set[str]) -> tuple[list[str], str]:
    """Return the words as click reads them, and the last option that took several.

    >>> _spread(["r.zarr", "--layers", "a", "b", "-o", "c"], {"--layers"})
    (['r.zarr', '--layers', 'a', '--layers', 'b', '-o', 'c'], '--layers')
    """
    spread: list[str] = []
    option, begun, took = "", False, ""
    for place, word in enumerate(args):
        if word == "--":
            return [*spread, *([option] if begun else []), *args[place:]], took
        if word.startswith("-") and len(word) > 1:
            spread += [option] if begun else []
            option, begun = (word, True) if word in options else ("", False)
            spread += [] if option else [word]
        elif option:
            took = took if begun else option
            spread += [option, word]
            begun = False
        else:
            spread.append(word)
    return [*spread, *([option] if begun else [])], took
