"""``fadiag verify``: whether a store is whole."""

import click

__all__ = ["verify"]


@click.command(short_help="Check that a store is whole.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path())
def verify(runs: tuple[str, ...]) -> None:
    """Check that every committed chunk of each RUN is there, whole and, if sealed, unchanged.

    Each problem is a line on stdout; a store with problems makes the command exit 1.
    """
    from fadiag.errors import DamagedError
    from fadiag.store import verify_run

    damaged = []
    for run in runs:
        found = verify_run(run)
        if found.problems:
            damaged.append(run)
            click.echo("\n".join(found.problems))
        else:
            click.echo(f"{run}: whole ({found.arrays} arrays, {found.chunks} chunks)")
    if damaged:
        raise DamagedError(f"damaged: {', '.join(damaged)}; take another copy, or record these runs again")
