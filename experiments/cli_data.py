"""`wardround data`: what data sets there are, generated hospitals, the hospitals that a run would have."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Data sets: what there is, and generated hospitals.", no_args_is_help=True)
Settings = Annotated[list[str] | None, typer.Option("--set", help="Override a value: section.key=value.")]


@app.command("list")
def data_list() -> None:
    """List the data sets, with source and licence."""
    from common import plugins
    from sites import datasets

    for name in datasets.names():
        card = plugins.load("sites", "CARD", name, "data set").CARD
        typer.echo(f"{name}: {card.title}\n    {card.inputs}\n    source: {card.source}\n    licence: {card.licence}")


@app.command("synth")
def data_synth(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it must not hold anything else.")],
    hospitals: Annotated[int, typer.Option(min=1, max=200)] = 4,
    patients: Annotated[int, typer.Option(min=1, max=500, help="Patients a hospital, about.")] = 10,
    minutes: Annotated[float, typer.Option(min=0.1, max=1440)] = 5.0,
    seed: int = 1,
) -> None:
    """Generate SYNTHETIC hospitals as WFDB recordings, one folder each."""
    from sites import generator

    profiles = generator.default_profiles(hospitals, patients, seed)

    def progress(done: int, total: int) -> None:
        if sys.stderr.isatty():
            typer.echo(f"\r{done} of {total} recordings", err=True, nl=done == total)

    generator.generate(folder, profiles, minutes=minutes, seed=seed, progress=progress)
    typer.echo(f"SYNTHETIC hospitals in {folder}: {', '.join(profile.name for profile in profiles)}")


@app.command("describe")
def data_describe(
    config: Annotated[Path, typer.Argument(help="The YAML file of a run.")], settings: Settings = None
) -> None:
    """Show the hospitals that a run would have, with the counts of their patients and classes."""
    from common import config as configuration
    from experiments import launch
    from sites import datasets

    wanted = launch.settled(configuration.load(config, settings or []))
    source = datasets.open_source(wanted, None)
    dealt, patients, dropped = datasets.hospitals(source, wanted)
    counts = {item.id: item.examples for item in patients}
    classes = source.task().classes
    typer.echo(source.card.title)
    for site, ids in dealt.items():
        sums = [sum(column) for column in zip(*(counts[name] for name in ids), strict=True)]
        text = ", ".join(f"{name} {number:,}" for name, number in zip(classes, sums, strict=True))
        typer.echo(f"  {site}: {len(ids)} recordings; {text}")
    if dropped:
        typer.echo(f"  left out of training: {dropped} recording(s) of a person in the published test set")
