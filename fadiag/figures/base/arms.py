"""Choose the conditions that a figure draws, the look of each, and the baseline."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import xarray as xr

from fadiag.errors import FigureWarning, InputError
from fadiag.figures.base.near_names import near
from fadiag.figures.look.palette import Look, look
from fadiag.figures.look.theme import current_theme, label
from fadiag.results.roles import roles

__all__ = ["Arm", "Arms", "arms"]


@dataclass(frozen=True)
class Arm:
    """One condition in a figure."""

    condition: str
    look: Look

    @property
    def label(self) -> str:
        """The name for readers."""
        return label(self.condition)


@dataclass(frozen=True)
class Arms:
    """The conditions in a figure, in order, and the name of the baseline; "" if there is none."""

    drawn: tuple[Arm, ...]
    baseline: str
    why_no_baseline: str = ""

    @property
    def names(self) -> list[str]:
        """The conditions in order."""
        return [arm.condition for arm in self.drawn]

    @property
    def treated(self) -> list[str]:
        """The conditions that are compared with the baseline."""
        return [name for name in self.names if name != self.baseline]


def arms(results: xr.DataTree, conditions: str | Sequence[str] | None, baseline: str | None) -> Arms:
    """Return the chosen conditions, by default all of them.

    The baseline is the given one, else the only condition whose runs have the rule "bp". A condition has the
    same look in every figure of the same results, whatever else is drawn.

    Raises
    ------
    InputError
        The results hold no such condition.
    """
    found = roles(results)
    known = current_theme().ordered(found.conditions)
    for name, meant in current_theme().misspelled(known).items():
        warnings.warn(
            f"the theme names {name!r}, which is no condition of the results; did you mean {meant!r}?",
            FigureWarning,
            stacklevel=2,
        )
    wanted = (
        [conditions] if isinstance(conditions, str) else list(known if conditions is None else conditions)
    )
    if conditions is not None and known and not wanted:
        raise InputError("conditions is empty; name at least one, or leave it out for all")
    for name in [*wanted, *([] if baseline is None else [baseline])]:
        if name not in known:
            raise InputError(f"the results hold no condition {name!r}{near(name, known)}")
    if baseline is None and len(found.baselines) == 1:
        baseline = found.baselines[0]
    # The first look is the baseline's; without one it stays free for the exact error of the same runs.
    places = {name: i + (not found.baselines) for i, name in enumerate(found.conditions)}
    drawn = [Arm(name, _painted(name, look(places[name]))) for name in dict.fromkeys(wanted)]
    return Arms(tuple(drawn), baseline or "", "" if baseline else _why_none(found.baselines))


def _painted(name: str, found: Look) -> Look:
    return replace(found, color=current_theme().colors.get(name, found.color))


def _why_none(baselines: Sequence[str]) -> str:
    if not baselines:
        return "no condition has the rule 'bp'; name one with baseline="
    several = ", ".join(map(label, baselines))
    return f"several conditions have the rule 'bp' ({several}); name one with baseline="
