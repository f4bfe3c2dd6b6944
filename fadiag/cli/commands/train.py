"""``fadiag train``: one run of the reference trainer, recorded."""

import click

from fadiag.cli.path_checks import checked_path, new_store

__all__ = ["train"]


def _pairs(_: click.Context, __: click.Parameter, overrides: tuple[str, ...]) -> tuple[str, ...]:
    for override in overrides:
        if not override.partition("=")[1]:
            raise click.BadParameter(f"{override!r} is not KEY=VALUE, as in optimizer.learning_rate=0.1")
    return overrides


@click.command(short_help="Train one network and record its signals.")
@click.argument("config", metavar="CONFIG.toml", type=click.Path())
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_pairs,
    help="Override one key, as in optimizer.learning_rate=0.1; may be repeated.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where to train.",
)
@click.option(
    "-o",
    "--out",
    default="run.zarr",
    show_default=True,
    type=click.Path(),
    help="The store to write. It must not exist.",
)
def train(config: str, overrides: tuple[str, ...], device: str, out: str) -> None:
    """Train one network as CONFIG.toml says and record its signals."""
    from fadiag.cli.progress import bar
    from fadiag.training import load_config
    from fadiag.training import train as run

    store = checked_path(new_store, out)
    loaded = load_config(config, overrides)
    with bar("training") as move:
        run(
            loaded,
            store,
            device=device,
            progress=lambda done, total, scalars: move(
                done, total, "  ".join(f"{name} {value:.3f}" for name, value in scalars.items())
            ),
        )
    click.echo(f"wrote {out}")
