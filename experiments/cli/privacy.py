"""`wardround privacy`: what has been spent of patients' privacy at a hospital, and whether the promise holds."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import ConfigError
from experiments.cli.data import Settings

if TYPE_CHECKING:
    from client.privacy.ledger import LedgerRow

app = typer.Typer(help="What patients' privacy has cost, and whether what is promised holds.", no_args_is_help=True)
Target = Annotated[Path, typer.Argument(help="A YAML file, or the folder of a run.", show_default=False)]
Runs = Annotated[Path, typer.Option("--runs", help="Folder that holds run folders.")]
SiteName = Annotated[str, typer.Option("--site", help="Which simulated hospital; else the first.")]


@app.command()
def ledger(
    site: Annotated[str, typer.Option(help="The hospital's name.")] = "",
    state: Annotated[
        Path, typer.Option(help="Folder of what the hospital's client keeps (wardround client --state).")
    ] = Path(".wardround/client"),
    path: Annotated[Path | None, typer.Option(help="The ledger file itself, instead of --site.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON lines.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Check the rows alone.")] = False,
    accept_data: Annotated[
        Path | None, typer.Option(help="This folder is the same data, grown: what was spent goes on counting.")
    ] = None,
) -> None:
    """Print the charges of a hospital's ledger, after checking that none was changed or taken out."""
    from client.privacy.data_digest import digest_folder
    from client.privacy.ledger import Ledger, get_ledger_path
    from common.errors import DataError

    if path is None and not site:
        raise ConfigError("wardround privacy ledger needs --site NAME or --path FILE")
    found = Ledger.read(path if path is not None else get_ledger_path(state / "runs", site))
    if accept_data is not None:
        if not accept_data.is_dir():
            raise DataError(f"no data folder {accept_data}")
        found.accept(digest_folder(accept_data))
    rows = found.rows()
    if verify or accept_data is not None:
        typer.echo(f"{found.path}: {len(rows)} charges, each as it was written")
    elif as_json:
        from dataclasses import asdict

        for row in rows:
            typer.echo(json.dumps(asdict(row)))
    else:
        _show(found.path, rows)


@app.command()
def audit(
    target: Target,
    settings: Settings = None,
    site: SiteName = "",
    canaries: Annotated[
        int, typer.Option(min=50, help="Persons (or examples) that do not exist, half trained on.")
    ] = 1000,
    confidence: Annotated[float, typer.Option(help="That the lower bound is none too high.")] = 0.99,
    root: Runs = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the verdict.")] = False,
) -> None:
    """Attack the private training that a configuration plans; fail if it reveals more than is claimed.

    Writes audit.json into a folder of its own, or into the run's, whose report then shows it.
    """
    from common.processes import interrupt_on_signals
    from experiments import simulated_site
    from experiments.privacy import audit as auditing

    config, folder = simulated_site.load_target(target, settings or [])
    with interrupt_on_signals():
        here = simulated_site.open_simulated_site(config, site)

        def tell(done: int, total: int) -> None:
            if not quiet:
                typer.echo(f"round {done} of {total}", err=True)

        found = auditing.audit_training(
            config, here.train, canaries=canaries, confidence=confidence, site=here.name, tell=tell
        )
    path = simulated_site.write_result(
        folder or simulated_site.create_result_folder(config, root, "audit"), "audit.json", found.to_dict()
    )
    if folder is not None and (folder / "report.json").is_file():
        from experiments.runs import run

        run.write_report(folder)
    if not quiet:
        typer.echo(found.table())
        typer.echo(f"written: {path}", err=True)
    found.raise_if_failed()
    typer.echo(found.verdict())


@app.command()
def inversion(
    target: Target,
    settings: Settings = None,
    site: SiteName = "",
    beats: Annotated[int, typer.Option(min=2, help="In a step with several.")] = 8,
    root: Runs = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the figures.")] = False,
) -> None:
    """Show what a server could see of one beat in an update, without and with clipping and noise.

    Writes inversion.json, inversion.svg and inversion.png into a folder of its own, or into the run's.
    """
    from common.processes import interrupt_on_signals
    from experiments import simulated_site
    from experiments.privacy import inversion as inverting

    config, folder = simulated_site.load_target(target, settings or [])
    with interrupt_on_signals():
        here = simulated_site.open_simulated_site(config, site)

        def tell(what: str) -> None:
            if not quiet:
                typer.echo(what, err=True)

        shown = inverting.demonstrate_inversion(config, here.train, beats=beats, site=here.name, tell=tell)
    folder = folder or simulated_site.create_result_folder(config, root, "inversion")
    simulated_site.write_result(folder, "inversion.json", shown.to_dict())
    _, picture = inverting.draw_inversion(shown, folder, f"One beat as a server could see it, model {shown.model}")
    typer.echo(shown.table())
    if not quiet:
        typer.echo(f"written: {picture}", err=True)


@app.command()
def sweep(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as experiments/synthetic.yaml.")],
    settings: Settings = None,
    epsilons: Annotated[str, typer.Option(help="The points; none: without privacy.")] = "none,10,8,4,2,1",
    seeds: Annotated[str, typer.Option(help="Several runs a point, such as 1,2,3; else the file's seed.")] = "",
    root: Runs = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the table.")] = False,
) -> None:
    """Run a configuration at several epsilons and plot what privacy costs at each hospital.

    Runs that are complete are not run again, so a sweep that was stopped goes on.
    """
    from rich.console import Console

    from common.processes import interrupt_on_signals
    from experiments.cli import run_progress
    from experiments.privacy import sweep as sweeping
    from experiments.runs import series

    asked, drawn = sweeping.parse_epsilons(epsilons), sweeping.parse_seeds(seeds)
    sweeping.plan_runs(config, settings or [], asked, drawn)
    screen = Console(stderr=True) if sys.stderr.isatty() else Console(stderr=True, width=120)
    watcher = run_progress.QuietPrinter() if quiet else run_progress.TerminalPrinter(screen)
    folder = series.make_series_folder(config, root, "sweep")
    try:
        with interrupt_on_signals():
            sweeping.run_sweep(config, settings or [], asked, drawn, folder, watcher)
    finally:
        watcher.close()
    typer.echo((folder / "sweep.md").read_text(encoding="utf-8"))
    typer.echo(f"written: {folder / 'sweep.html'}", err=True)


def _show(path: Path, rows: list[LedgerRow]) -> None:
    from rich.console import Console
    from rich.table import Table

    screen = Console() if sys.stdout.isatty() else Console(width=140)
    screen.print(f"{path}: {len(rows)} charges, each as it was written", soft_wrap=True, highlight=False, markup=False)
    table = Table()
    for name in ("", "time (UTC)", "run", "round", "per", "units", "q", "sigma", "steps", "delta", "by"):
        table.add_column(name, justify="right" if name not in ("run", "per", "by", "time (UTC)") else "left")
    table.add_column("epsilon, run", justify="right")
    table.add_column("epsilon, all", justify="right")
    for row in rows:
        table.add_row(
            str(row.number), row.time[:19].replace("T", " "), row.run[:8], str(row.round or "sums"),
            row.level if row.private else f"{row.level}, NOT PRIVATE", str(row.units), f"{row.q:g}", f"{row.sigma:.4g}",
            str(row.steps), f"{row.delta:g}", row.accountant, f"{row.epsilon_run:.3f}", f"{row.epsilon:.3f}",
        )  # fmt: skip
    screen.print(table)
