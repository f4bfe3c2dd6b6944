"""``fadiag verify``: whether a store is whole."""

import click

__all__ = ["verify"]


@click.command(short_help="Check that a store is whole.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path())
def verify(runs: tuple[str, ...]) -> None:
    """Check that every committed chunk of each RUN is there, whole and, if sealed, unchanged.

    Each problem is a line on stdout, a path that is no store among them; with a problem in any the command
    exits 1, once it has looked at all.
    """
    from fadiag.errors import DamagedError

    bad = []
    for run in runs:
        whole, told = _look_at(run)
        click.echo(told)
        if not whole:
            bad.append(run)
    if bad:
        raise DamagedError(f"not whole: {', '.join(bad)}; take another copy, or record these runs again")


def _look_at(run: str) -> tuple[bool, str]:
    """Return whether a store is whole, and what to say of it."""
    from fadiag.errors import StoreError
    from fadiag.store import verify_run

    try:
        found = verify_run(run)
    except StoreError as error:
        return False, str(error)
    if found.problems:
        return False, "\n".join(found.problems)
    return True, f"{run}: whole ({found.arrays} arrays, {found.chunks} chunks)"
