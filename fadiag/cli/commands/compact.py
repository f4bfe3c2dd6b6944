"""``fadiag compact``: a sealed, compressed copy of a run."""

import click

__all__ = ["compact"]


@click.command(short_help="Write a sealed, compressed copy of a run.")
@click.argument("run", type=click.Path())
@click.argument("dest")
def compact(run: str, dest: str) -> None:
    """Write a sealed copy of RUN to DEST: few files, compressed, with checksums; values are bit-equal.

    DEST is a path that does not exist, or s3://bucket/prefix and the like (extra: fadiag[cloud]). RUN stays.
    """
    from fadiag.store import compact as seal

    seal(run, dest)
    click.echo(f"wrote {dest}")
