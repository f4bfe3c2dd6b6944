"""Provide the ``fadiag`` command; each subcommand imports its libraries only when it runs."""

import click

from fadiag import __version__
from fadiag.cli.commands.analyze import analyze
from fadiag.cli.commands.compact import compact
from fadiag.cli.commands.compare import compare
from fadiag.cli.commands.demo import demo
from fadiag.cli.commands.export import export
from fadiag.cli.commands.figure import figure
from fadiag.cli.commands.inspect import inspect
from fadiag.cli.commands.metrics import metrics
from fadiag.cli.commands.report import report
from fadiag.cli.commands.study import study
from fadiag.cli.commands.table import table
from fadiag.cli.commands.train import train
from fadiag.cli.commands.verify import verify
from fadiag.cli.commands.watch import watch
from fadiag.cli.group import Group

__all__ = ["main"]


# \b stops click from joining the lines of the paragraph.
_HELP = """Record and measure the credit signals of networks trained with Feedback Alignment.

\b
A complete study on data in the package:
  fadiag demo
Any study that a file declares:
  fadiag study study.toml
Step by step:
  fadiag train config.toml --out run.zarr
  fadiag inspect run.zarr
  fadiag analyze run.zarr -o results.zarr
  fadiag figure rank_by_depth results.zarr -o rank.pdf
  fadiag report results.zarr -o report.html

Exit code 2 is a usage error. Exit code 1 is a failure, with one line on stderr.
"""


@click.group(
    cls=Group, help=_HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@click.version_option(__version__, prog_name="fadiag")
def main(debug: bool) -> None:
    """Run the command; see ``fadiag --help``."""


_STUDIES = (demo, study, train, watch, inspect, analyze, figure, table, report, compare)
for command in (*_STUDIES, metrics, verify, compact, export):
    main.add_command(command)
