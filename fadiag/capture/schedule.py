"""When to record: a schedule says of a step whether it is recorded."""

from collections.abc import Callable, Iterable

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
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"every is {n!r}; give a whole number of steps, at least 1")
    return lambda step: step % n == 0


def logarithmic(per_decade: int = 10) -> Schedule:
    """Record step 0 and the whole numbers nearest to 10^(i / per_decade), i = 0, 1, ...

    Examples
    --------
    >>> [step for step in range(101) if logarithmic(3)(step)]
    [0, 1, 2, 5, 10, 22, 46, 100]
    """
    if isinstance(per_decade, bool) or not isinstance(per_decade, int) or per_decade < 1:
        raise InputError(f"per_decade is {per_decade!r}; give a whole number, at least 1")
    # 10^19 is beyond any step of an int64 axis.
    return listed({0, *(round(10 ** (i / per_decade)) for i in range(19 * per_decade))})


def listed(steps: Iterable[int]) -> Schedule:
    """Record the given steps.

    Examples
    --------
    >>> [step for step in range(7) if listed([5, 2])(step)]
    [2, 5]
    """
    chosen = frozenset(steps)
    for step in chosen:
        if isinstance(step, bool) or not isinstance(step, int) or step < 0:
            raise InputError(f"step {step!r} is listed; steps are whole numbers from 0 on")
    return chosen.__contains__


def as_schedule(given: int | Iterable[int] | Schedule) -> Schedule:
    """Take a number n as `every`, an iterable as `listed`, and a callable as it is."""
    if callable(given):
        return given
    if isinstance(given, Iterable) and not isinstance(given, str):
        return listed(given)
    return every(given)
