"""Define ``fadiag verify``, which checks that a store is complete and undamaged."""

import click

from fadiag.cli.terminal import say

__all__ = ["verify"]


@click.command(short_help="Check that a store is whole.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path())
def verify(runs: tuple[str, ...]) -> None:
    """Check that every committed chunk of each RUN exists, is complete and, if sealed, is unchanged.

    Each problem is a line on stdout, and so is a path that is not a store. All RUNs are checked; then the
    command exits with 1 if there is any problem.
    """
    from fadiag.errors import DamagedError

    bad = []
    for run in runs:
        whole, line = _look_at(run)
        say(line)
        if not whole:
            bad.append(run)
    if bad:
        raise DamagedError(f"not whole: {', '.join(bad)}; take another copy, or record these runs again")


def _look_at(run: str) -> tuple[bool, str]:
    """Return whether a store is whole, and the line to print."""
    from fadiag.errors import StoreError
    from fadiag.store import verify_run

    try:
        found = verify_run(run)
    except StoreError as error:
        return False, str(error)
    if found.problems:
        return False, "\n".join(found.problems)
    return True, f"{run}: whole ({found.arrays} arrays, {found.chunks} chunks)"
