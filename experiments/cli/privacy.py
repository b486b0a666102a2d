"""`wardround privacy`: the privacy ledger of a hospital, and attacks that test what private training promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from common.errors import ConfigError
from experiments.cli.data import Settings

if TYPE_CHECKING:
    from client.privacy.charges import LedgerRow

app = typer.Typer(help="The privacy ledger, and tests of what private training promises.", no_args_is_help=True)
Target = Annotated[
    Path, typer.Argument(help="A YAML file, the name of an experiment, or a run's folder.", show_default=False)
]
Runs = Annotated[Path, typer.Option("--runs", help="The folder of all run folders.")]
SiteName = Annotated[str, typer.Option("--site", help="A simulated hospital's name; default: the first.")]


@app.command("ledger")
def ledger_command(
    site: Annotated[str, typer.Option(help="The hospital's name.")] = "",
    state: Annotated[
        Path, typer.Option(help="The state folder of the hospital's client (wardround client --state).")
    ] = Path(".wardround/client"),
    split: Annotated[
        Literal["train", "validation", "test"],
        typer.Option(help="Whose ledger: of those who train, or of validation or test patients."),
    ] = "train",
    path: Annotated[Path | None, typer.Option(help="The ledger file itself, instead of --site.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print rows as JSON lines.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Only check the rows.")] = False,
    accept_data: Annotated[
        Path | None,
        typer.Option(
            help="Declare this folder to be the same data, extended: earlier charges still count. With --site it holds "
            "for the ledgers of all splits."
        ),
    ] = None,
) -> None:
    """Print the charges of a hospital's privacy ledger, after checking that none was changed or removed."""
    from dataclasses import asdict

    from client.privacy.data_digest import digest_folder
    from client.privacy.ledger import LEDGER_SPLITS, Ledger, get_ledger_path
    from common.errors import DataError

    if path is None and not site:
        raise ConfigError("wardround privacy ledger needs --site NAME or --path FILE")
    own = path if path is not None else get_ledger_path(state / "runs", site, split)
    if accept_data is not None:
        if not accept_data.is_dir():
            raise DataError(f"no data folder {accept_data}")
        digest = digest_folder(accept_data)
        others = () if path is not None else (get_ledger_path(state / "runs", site, name) for name in LEDGER_SPLITS)
        for file in {own, *(other for other in others if other.is_file())}:
            Ledger.read(file).accept(digest)
    ledger = Ledger.read(own)
    rows = ledger.rows()
    if verify or accept_data is not None:
        typer.echo(f"{ledger.path}: {len(rows)} charges, none changed or removed")
    elif as_json:
        for row in rows:
            typer.echo(json.dumps(asdict(row)))
    else:
        _print_charges(ledger.path, rows)


@app.command("audit")
def audit_command(
    target: Target,
    settings: Settings = None,
    site: SiteName = "",
    canaries: Annotated[
        int, typer.Option(min=50, help="Artificial persons (or examples), about half of which are trained on.")
    ] = 1000,
    confidence: Annotated[float, typer.Option(help="Confidence level of the lower bound.")] = 0.99,
    root: Runs = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the verdict.")] = False,
) -> None:
    """Attack the private training that a configuration plans; fail if it reveals more than its epsilon allows.

    Writes audit.json into a new folder, or into the given run's folder, whose report then shows the result.
    """
    from common.processes import interrupt_on_signals
    from common.run_folder import RunFolder
    from experiments.privacy.audit import audit_training
    from experiments.runs.run import write_run_report
    from experiments.simulated_site import create_result_folder, load_target, open_simulated_site, write_result

    config, folder = load_target(target, settings or [])
    with interrupt_on_signals():
        hospital = open_simulated_site(config, site)

        def show_round(done: int, total: int) -> None:
            if not quiet:
                typer.echo(f"round {done} of {total}", err=True)

        audit = audit_training(
            config, hospital.train, canaries=canaries, confidence=confidence, site=hospital.name, on_round=show_round
        )
    path = write_result(RunFolder(folder or create_result_folder(config, root, "audit")).audit, audit.to_dict())
    if folder is not None and RunFolder(folder).report.is_file():
        write_run_report(folder)
    if not quiet:
        typer.echo(audit.table())
        typer.echo(f"written: {path}", err=True)
    audit.raise_if_failed()
    typer.echo(audit.verdict())


@app.command("gate")
def attack_gate(
    config: Annotated[Path, typer.Argument(help="A YAML file whose task has two classes and a table of inputs.")],
    data: Annotated[Path, typer.Option(help="The folder that holds one hospital's data.")],
    settings: Settings = None,
    policy: Annotated[
        Path | None, typer.Option(help="What this hospital allows (YAML); default: the defaults.")
    ] = None,
    games: Annotated[
        int, typer.Option(min=0, help="Also measure membership, in so many games (8 or more); about a second each.")
    ] = 0,
    share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="Membership: share of the folder's people at the hospital.")
    ] = 0.5,
    crafted: Annotated[
        int, typer.Option(min=0, help="Membership: crafted models asked about one person, in games of their own.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the results as JSON.")] = False,
) -> None:
    """Attack a hospital's gate as a hostile coordinator would; fail if a patient's row is recovered.

    With --games also measures how well a hospital's answers show whether a known person is among its patients, and
    fails where the whole interval of the AUROC of its test and validation figures lies above 0.55.
    """
    import json

    from client.policy import load_policy
    from common import config as configuration
    from experiments.privacy import gate_audit, membership

    run, allowed = configuration.load_config(config, settings or []), load_policy(policy)
    results = gate_audit.audit_gate(run, data, allowed, required=not games)
    members = membership.attack_membership(run, data, allowed, games, share, crafted=crafted) if games else []
    if as_json:
        typer.echo(json.dumps({**gate_audit.to_dict(results), "membership": membership.membership_to_dict(members)}))
    else:
        tables = [gate_audit.render_table(results)] if results else []
        typer.echo("\n\n".join([*tables, *([membership.render_membership(members)] if members else [])]))
    gate_audit.raise_if_recovered(results)
    membership.raise_if_above(members)


@app.command("inversion")
def inversion_command(
    target: Target,
    settings: Settings = None,
    site: SiteName = "",
    beats: Annotated[int, typer.Option(min=2, help="Beats in a step of several beats.")] = 8,
    root: Runs = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the figures.")] = False,
) -> None:
    """Show how well a server could reconstruct one beat from an update, with and without clipping and noise.

    Writes inversion.json, inversion.svg and inversion.png into a new folder, or into the given run's folder.
    """
    from common.processes import interrupt_on_signals
    from common.run_folder import RunFolder
    from experiments.privacy.inversion import demonstrate_inversion, draw_inversion
    from experiments.simulated_site import create_result_folder, load_target, open_simulated_site, write_result

    config, folder = load_target(target, settings or [])
    with interrupt_on_signals():
        hospital = open_simulated_site(config, site)

        def show_step(what: str) -> None:
            if not quiet:
                typer.echo(what, err=True)

        demonstration = demonstrate_inversion(
            config, hospital.train, beats=beats, site=hospital.name, on_step=show_step
        )
    folder = folder or create_result_folder(config, root, "inversion")
    write_result(RunFolder(folder).inversion, demonstration.to_dict())
    title = f"One beat as a server could see it, model {demonstration.model}"
    _, picture = draw_inversion(demonstration, folder, title)
    typer.echo(demonstration.table())
    if not quiet:
        typer.echo(f"written: {picture}", err=True)


@app.command("sweep")
def sweep_command(
    config: Annotated[Path, typer.Argument(help="A YAML file, or the name of an experiment, such as synthetic.")],
    settings: Settings = None,
    epsilons: Annotated[str, typer.Option(help="Epsilons to run; none is a run without privacy.")] = "none,10,8,4,2,1",
    seeds: Annotated[
        str, typer.Option(help="Seeds to run at each epsilon, such as 1,2,3; default: the configuration's.")
    ] = "",
    root: Runs = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the table.")] = False,
) -> None:
    """Run a configuration at several epsilons and plot what privacy costs at each hospital.

    Complete runs are not repeated, and the same command goes on with a sweep that was stopped, after the last complete
    round.
    """
    from experiments.cli.interrupts import explain_interrupts
    from experiments.cli.run_progress import RunPrinter, choose_printer
    from experiments.privacy.sweep import parse_epsilons, parse_seeds, plan_runs, run_sweep
    from experiments.runs.experiment_files import find_experiment
    from experiments.runs.series import make_series_folder

    config = find_experiment(config)
    points, runs_seeds = parse_epsilons(epsilons), parse_seeds(seeds)
    plan_runs(config, settings or [], points, runs_seeds)
    printer = choose_printer(RunPrinter, quiet=quiet)
    folder = make_series_folder(config, root, "sweep")
    with explain_interrupts(printer):
        run_sweep(config, settings or [], points, runs_seeds, folder, printer)
    typer.echo((folder / "sweep.md").read_text(encoding="utf-8"))
    typer.echo(f"written: {folder / 'sweep.html'}", err=True)


def _print_charges(path: Path, rows: list[LedgerRow]) -> None:
    from rich.table import Table

    from experiments.cli.run_progress import open_console

    console = open_console(width=140)
    text = f"{path}: {len(rows)} charges, none changed or removed"
    console.print(text, soft_wrap=True, highlight=False, markup=False)
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
    console.print(table)
