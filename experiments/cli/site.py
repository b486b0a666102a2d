"""`wardround site`: what a hospital's policy allows, and what its register holds."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="At a hospital: its policy in words, its split, its register.", no_args_is_help=True)

MAX_WIDTH = 100
"""Widest line that is printed, in characters."""

SiteName = Annotated[str, typer.Option("--site", help="The hospital's name.")]
StateFolder = Annotated[Path, typer.Option("--state", help="The hospital's state folder, as for wardround client.")]


@app.command()
def explain(
    policy: Annotated[Path | None, typer.Argument(help="A policy file; none: the defaults.")] = None,
    run: Annotated[
        Path | None, typer.Option(help="A run's YAML file: explain the policy as the run tightens it.")
    ] = None,
) -> None:
    """Print what a policy allows, and what each kind of reply can reveal under it."""
    from client import policy as policies
    from client.gate import explain as words
    from client.gate.tighten import tighten_policy
    from common.config import load_config

    loaded = policies.load_policy(policy)
    if run is not None:
        loaded = tighten_policy(loaded, load_config(run).federation.site_policy)
    for line in words.describe_policy(loaded):
        typer.echo(wrap_line(line, "- "))
    typer.echo("\nSettings with which a coordinator could select people\n")
    for key, answer, why in words.list_settings(loaded):
        typer.echo(wrap_line(f"{key}: {answer}. Could be used to {why}.", "- "))
    typer.echo("\nWhat leaves with each kind of reply")
    for reply, holds, limits, remains in words.list_risks(loaded):
        typer.echo(f"\n{reply}")
        for label, text in (("holds", holds), ("limits", limits), ("can reveal", remains)):
            typer.echo(wrap_line(text, f"  {label + ':':12}"))


def wrap_line(text: str, label: str) -> str:
    """Return text wrapped to the terminal's width behind a label, further lines indented below its first word."""
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    return textwrap.fill(text, width, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False)


@app.command()
def register(site: SiteName, state: StateFolder) -> None:
    """Print how many people, answers and questions the hospital's register holds."""
    register = _register(site, state)
    for part, counts in register.summary().items():
        for name, count in sorted(counts.items()):
            typer.echo(f"{part}: {name}: {count}")


@app.command()
def redraw(
    site: SiteName,
    state: StateFolder,
    dataset: Annotated[str, typer.Option(help="The data set's name in a configuration.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do it without asking.")] = False,
) -> None:
    """Draw a new split of the hospital's people; people who trained before may then be tested."""
    from common.errors import UsageError

    register = _register(site, state)
    if not yes and not typer.confirm(f"{site}: draw {dataset}'s split anew? Earlier answers were about other people"):
        raise UsageError("nothing was changed")
    typer.echo(f"{site}: {register.redraw(dataset)} people will be drawn anew at the next request")


def _register(site: str, state: Path):  # type: ignore[no-untyped-def]
    from client.gate.register import open_register
    from client.policy import SitePolicy
    from client.site_context import SiteContext
    from common.errors import UsageError

    register = open_register(SiteContext(SitePolicy(), site=site, data=state, state=state / "runs"))
    if not register.path.exists():
        raise UsageError(f"no register at {register.path}: it is made at the first request; check --site and --state")
    return register
