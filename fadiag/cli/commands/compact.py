"""Define ``fadiag compact``, which writes a sealed, compressed copy of a run."""

import click

from fadiag.cli.path_checks import NewPath
from fadiag.cli.terminal import say

__all__ = ["compact"]


@click.command(short_help="Write a sealed, compressed copy of a run.")
@click.argument("run", type=click.Path())
@click.argument("dest", type=NewPath())
def compact(run: str, dest: str) -> None:
    """Write a sealed copy of RUN to DEST, in few compressed files with checksums and bit-equal values.

    DEST is a new path, or a URL such as s3://bucket/prefix (extra: fadiag[cloud]). RUN is not changed.
    """
    from fadiag.store import compact as seal

    seal(run, dest)
    say(f"wrote {dest}")
