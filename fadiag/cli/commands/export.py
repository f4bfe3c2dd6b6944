"""Define ``fadiag export``, which writes a run as netCDF for R, Julia and MATLAB."""

import click

from fadiag.cli.path_checks import NewPath
from fadiag.cli.terminal import say

__all__ = ["export"]


@click.command(short_help="Write a run as netCDF-4.")
@click.argument("run", type=click.Path())
@click.argument("dest", metavar="DEST.nc", type=NewPath())
def export(run: str, dest: str) -> None:
    """Write RUN as netCDF-4 with the same groups and dimensions, for R, Julia or MATLAB.

    It needs the extra fadiag[netcdf].
    """
    from fadiag.store import export_netcdf

    export_netcdf(run, dest)
    say(f"wrote {dest}")
