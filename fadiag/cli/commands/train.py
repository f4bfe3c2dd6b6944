"""``fadiag train``: one run of the reference trainer, recorded."""

from typing import Any

import click

from fadiag.cli.path_checks import NewPath, checked_path, new_store
from fadiag.cli.terminal import say
from fadiag.paths import absolute_path

__all__ = ["train"]


def _pairs(_: click.Context, __: click.Parameter, overrides: tuple[str, ...]) -> tuple[str, ...]:
    for override in overrides:
        if not override.partition("=")[1]:
            raise click.BadParameter(f"{override!r} is not KEY=VALUE, as in optimizer.learning_rate=0.1")
    return overrides


def _origin(context: click.Context, parameter: click.Parameter, given: str | None) -> tuple[str, int] | None:
    if given is None:
        return None
    run, at, step = given.rpartition("@")
    if not at or not run or not step.isdecimal():
        raise click.BadParameter(f"{given!r} is not RUN@STEP, as in run.zarr@500")
    return run, int(step)


@click.command(short_help="Train one network and record its signals.")
@click.argument("config", metavar="[CONFIG.toml]", type=click.Path(), required=False)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    callback=_pairs,
    help="Override one key, as in optimizer.learning_rate=0.1; may be repeated.",
)
@click.option(
    "--from",
    "origin",
    metavar="RUN@STEP",
    callback=_origin,
    help="Begin with a checkpoint of another run and its configuration, in place of CONFIG.toml.",
)
@click.option("--resume", is_flag=True, help="If the store exists, go on from its newest checkpoint.")
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
    type=NewPath(),
    help="The store to write. It must not exist, but for --resume.",
)
def train(
    *,
    config: str | None,
    overrides: tuple[str, ...],
    origin: tuple[str, int] | None,
    resume: bool,
    device: str,
    out: str,
) -> None:
    """Train one network as CONFIG.toml says and record its signals."""
    from fadiag.cli.progress import bar
    from fadiag.training import load_checkpoint, load_config, make_config
    from fadiag.training import train as run

    if (config is None) == (origin is None):
        raise click.UsageError("give a CONFIG.toml, or --from RUN@STEP")
    if resume and origin is not None:
        raise click.UsageError("--resume goes on in a run's own store, --from begins a new one")
    store = absolute_path(out) if resume else checked_path(new_store, out)
    options: dict[str, Any] = {"resume": resume}
    if origin is not None:
        checkpoint = load_checkpoint(*origin)
        options["branch"] = checkpoint
        loaded = make_config(checkpoint.table, overrides, source=f"{origin[0]}@{origin[1]}")
        if loaded.label == checkpoint.config.label:
            say(
                f"warning: condition {loaded.label!r} and seed {loaded.seeds.init} are those of {origin[0]} "
                "too, so the two runs cannot be drawn together; set another, as --set condition=NAME",
                err=True,
            )
    else:
        assert config is not None
        loaded = load_config(config, overrides)
    with bar("training") as move:
        run(
            loaded,
            store,
            device=device,
            progress=lambda done, total, scalars: move(
                done, total, "  ".join(f"{name} {value:.3f}" for name, value in scalars.items())
            ),
            **options,
        )
    say(f"wrote {out}")
