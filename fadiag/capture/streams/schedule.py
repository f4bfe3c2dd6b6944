"""Build schedules, functions that return whether to record at a step."""

from collections.abc import Callable, Iterable

from fadiag.capture.arguments import whole_number
from fadiag.errors import InputError

__all__ = ["Schedule", "as_schedule", "every", "listed", "logarithmic"]

Schedule = Callable[[int], bool]


def every(n: int) -> Schedule:
    """Record steps 0, n, 2n, ...

    Raises
    ------
    InputError
        ``n`` is not a positive whole number.

    Examples
    --------
    >>> [step for step in range(7) if every(3)(step)]
    [0, 3, 6]
    """
    period = whole_number(n, 1)
    if period is None:
        raise InputError(f"every is {n!r}; give a whole number of steps, at least 1")
    return lambda step: step % period == 0


def logarithmic(per_decade: int = 10) -> Schedule:
    """Record step 0 and the whole numbers nearest to 10^(i / per_decade) for i = 0, 1, ...

    Examples
    --------
    >>> [step for step in range(101) if logarithmic(3)(step)]
    [0, 1, 2, 5, 10, 22, 46, 100]
    """
    count = whole_number(per_decade, 1)
    if count is None:
        raise InputError(f"per_decade is {per_decade!r}; give a whole number, at least 1")
    # 10^19 exceeds the largest step of an int64 axis.
    return listed({0, *(round(10 ** (i / count)) for i in range(19 * count))})


def listed(steps: Iterable[int]) -> Schedule:
    """Record the given steps.

    Examples
    --------
    >>> [step for step in range(7) if listed([5, 2])(step)]
    [2, 5]
    """
    chosen = set()
    for given in steps:
        step = whole_number(given, 0)
        if step is None:
            raise InputError(f"step {given!r} is listed; steps are whole numbers from 0 on")
        chosen.add(step)
    return chosen.__contains__


def as_schedule(given: int | Iterable[int] | Schedule) -> Schedule:
    """Return a schedule for the user's argument: n for `every`, an iterable for `listed`, or a callable.

    Examples
    --------
    >>> due = as_schedule([0, 1, 10])
    >>> [step for step in range(20) if due(step)], [step for step in range(20) if as_schedule(8)(step)]
    ([0, 1, 10], [0, 8, 16])
    """
    if callable(given):
        return given
    if isinstance(given, Iterable) and not isinstance(given, str):
        return listed(given)
    return every(given)
