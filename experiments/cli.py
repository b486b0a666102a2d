"""The command line. Everything heavy is imported inside the command that needs it: --help answers at once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import ConfigError, UsageError, WardroundError

if TYPE_CHECKING:
    from server.link import Connection

app = typer.Typer(
    name="wardround",
    help="Federated learning for hospitals: train together, keep the data, read how the model holds at each.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
data_app = typer.Typer(help="Data sets: what there is, and generated hospitals.", no_args_is_help=True)
server_app = typer.Typer()
client_app = typer.Typer()
bench_app = typer.Typer(help="Benchmarks: ratios measured in one run.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(server_app, name="server")
app.add_typer(client_app, name="client")
app.add_typer(bench_app, name="bench")

Settings = Annotated[list[str] | None, typer.Option("--set", help="Override a value: section.key=value.")]
Address = Annotated[str, typer.Option(help="HOST:PORT of the running server.")]
State = Annotated[Path, typer.Option(help="Folder of certificates, keys and the server's database.")]


@app.callback()
def _options(debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False) -> None:
    if debug:
        os.environ["WARDROUND_DEBUG"] = "1"


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A YAML file, such as experiments/synthetic.yaml.")],
    settings: Settings = None,
    root: Annotated[Path, typer.Option("--runs", help="Folder that holds run folders.")] = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the run's folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON lines.")] = False,
) -> None:
    """Train a federation and write its report."""
    from common import config as configuration
    from common.processes import interruptible
    from experiments import console, launch

    wanted = configuration.load(config, settings or [])
    from rich.console import Console

    screen = Console(stderr=True)
    watcher = console.Lines() if as_json else console.Quiet() if quiet else console.Terminal(screen)
    try:
        with interruptible():
            folder = launch.run(wanted, root, watcher)
    finally:
        watcher.close()
    if as_json:
        watcher.event({"event": "report", "folder": str(folder), "report": str(folder / "report.json")})
    elif quiet:
        typer.echo(folder)
    else:
        _show(folder)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    show: Annotated[bool, typer.Option(help="Print the summary.")] = True,
) -> None:
    """Render a run's report again, from its report.json alone."""
    from common.errors import DataError

    if not (folder / "report.json").is_file() and not (folder / "run.json").is_file():
        raise DataError(f"{folder} is no run folder: it holds no report.json")
    if (folder / "report.json").is_file():
        from experiments.report import write

        write.render(folder)
    else:
        from experiments import launch

        launch.write_report(folder)
    if show:
        _show(folder)


def _show(folder: Path) -> None:
    from rich.console import Console

    from experiments.report import model, tables

    screen = Console() if sys.stdout.isatty() else Console(width=110)
    screen.print(tables.terminal(model.from_json((folder / "report.json").read_text(encoding="utf-8"))))
    screen.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)


@data_app.command("list")
def data_list() -> None:
    """List the data sets, with source and licence."""
    from common import plugins
    from sites import datasets

    for name in datasets.names():
        card = plugins.load("sites", "CARD", name, "data set").CARD
        typer.echo(f"{name}: {card.title}\n    {card.inputs}\n    source: {card.source}\n    licence: {card.licence}")


@data_app.command("synth")
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


@data_app.command("describe")
def data_describe(
    config: Annotated[Path, typer.Argument(help="The YAML file of a run.")], settings: Settings = None
) -> None:
    """Show the hospitals that a run would have, with the counts of their patients and classes."""
    from common import config as configuration
    from experiments import launch
    from sites import datasets

    wanted = launch._settled(configuration.load(config, settings or []))
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


@app.command()
def doctor() -> None:
    """Check what this machine has for each engine."""
    import shutil

    from experiments import runs

    for name, version in runs.versions().items():
        typer.echo(f"{name:14} {version}")
    import torch

    typer.echo(f"{'device':14} {'cuda' if torch.cuda.is_available() else 'cpu'}, {os.cpu_count()} cores")
    typer.echo(f"{'engine local':14} ready")
    try:
        from experiments.ray_engine import require_ray

        require_ray()
        typer.echo(f"{'engine ray':14} ready")
    except UsageError as error:
        typer.echo(f"{'engine ray':14} {error}")
    from common.processes import program

    missing = [tool for tool in ("flower-superlink", "flower-supernode", "flwr") if not shutil.which(program(tool))]
    state = f"missing programs: {', '.join(missing)}" if missing else "ready"
    typer.echo(f"{'engine federation':14} {state}")


@server_app.callback(invoke_without_command=True)
def server(
    context: typer.Context,
    state: State = Path(".wardround/server"),
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on.")] = "127.0.0.1:8000",
) -> None:
    """The coordinator's server for real hospitals: without a command, runs it until Ctrl-C."""
    if context.invoked_subcommand:
        return
    import time

    from client.node import split_address
    from common.errors import EngineError
    from common.processes import interruptible
    from server import credentials
    from server.link import SuperLink

    host, port = split_address(listen)
    found = credentials.Credentials.in_folder(state.resolve())
    with interruptible(), SuperLink(state.resolve(), found, host=host, port=port) as link:
        typer.echo(f"serving on {listen}, log in {link.log}; Ctrl-C stops it")
        while link.poll() is None:
            time.sleep(0.5)
        raise EngineError(f"the server ended by itself; see {link.log}")


@server_app.command("init")
def server_init(
    name: Annotated[list[str], typer.Option(help="Name or address by which hospitals reach the server; repeat it.")],
    state: State = Path(".wardround/server"),
) -> None:
    """Make a certificate authority and the server's certificate."""
    from server import credentials

    made = credentials.create(state.resolve(), name)
    typer.echo(f"made {made.ca} (give this file to every hospital) and the server's certificate and key")


@server_app.command("register")
def server_register(
    site: Annotated[str, typer.Argument(help="The hospital's name.")],
    public_key: Annotated[Path, typer.Argument(help="The public key file that the hospital sent.")],
    state: State = Path(".wardround/server"),
    address: Address = "127.0.0.1:8000",
) -> None:
    """Admit a hospital by its node key."""
    _connection(state, address).register(site, public_key.resolve())
    typer.echo(f"{site} is admitted")


@server_app.command("unregister")
def server_unregister(
    site: Annotated[str, typer.Argument(help="The hospital's name.")],
    state: State = Path(".wardround/server"),
    address: Address = "127.0.0.1:8000",
) -> None:
    """Cut a hospital off."""
    _connection(state, address).unregister(site)
    typer.echo(f"{site} is no longer admitted")


@server_app.command("nodes")
def server_nodes(state: State = Path(".wardround/server"), address: Address = "127.0.0.1:8000") -> None:
    """List the admitted hospitals and whether each is online."""
    for site, status in sorted(_connection(state, address).nodes().items()):
        typer.echo(f"{site}: {status}")


def _connection(state: Path, address: str) -> Connection:
    from server import credentials
    from server.link import Connection

    state = state.resolve()
    ca = credentials.Credentials.in_folder(state).ca
    if not ca.is_file():
        raise ConfigError(f"no certificates in {state}: make them with wardround server init, or name it with --state")
    return Connection(address, ca, state)


@client_app.command("keygen")
def client_keygen(
    key: Annotated[Path, typer.Argument(help="Where to write the private key.")] = Path(".wardround/node.key"),
) -> None:
    """Make this hospital's node key, and print the public half to send to the coordinator."""
    from client import node

    typer.echo(node.make_key(key.resolve()))


@client_app.callback(invoke_without_command=True)
def client(
    context: typer.Context,
    site: Annotated[str, typer.Option(help="This hospital's name.")] = "",
    data: Annotated[Path | None, typer.Option(help="The folder that holds this hospital's data.")] = None,
    superlink: Annotated[str, typer.Option(help="HOST:PORT of the server.")] = "",
    ca: Annotated[Path, typer.Option(help="The authority's certificate from the coordinator.")] = Path("ca.pem"),
    key: Annotated[Path, typer.Option(help="This hospital's node key.")] = Path(".wardround/node.key"),
    policy: Annotated[Path | None, typer.Option(help="What this hospital allows (YAML).")] = None,
    state: Annotated[Path, typer.Option(help="Folder for the node's state and logs.")] = Path(".wardround/client"),
) -> None:
    """A hospital's client: without a command, runs it until Ctrl-C."""
    if context.invoked_subcommand:
        return
    if not site or data is None or not superlink:
        raise ConfigError("wardround client needs --site NAME, --data DIR and --superlink HOST:PORT")
    from client import node
    from client import policy as policies
    from common.errors import DataError
    from common.processes import interruptible

    if not data.is_dir():
        raise DataError(f"no data folder {data}: give the folder that holds this hospital's data")
    policies.load(policy)
    config: dict[str, str | int | float | bool] = {"site": site, "data": str(data.resolve())}
    if policy is not None:
        config["policy"] = str(policy.resolve())
    settings = node.NodeSettings(site, superlink, ca.resolve(), key.resolve(), state.resolve(), config)
    with interruptible():
        node.Node(settings).run(say=typer.echo)


@bench_app.command("engine")
def bench_engine(
    sites: int = 10,
    examples: int = 2000,
    rounds: Annotated[int, typer.Option(help="Rounds measured for each engine.")] = 3,
    ray: Annotated[bool, typer.Option(help="Measure ray too.")] = True,
) -> None:
    """A round of each engine beside a bare loop that does the same steps."""
    from experiments import bench

    typer.echo(json.dumps(bench.engine(sites, examples, rounds, ray), indent=1))


@bench_app.command("data")
def bench_data(folder: Annotated[Path, typer.Argument(help="MIT-BIH records.")] = Path("data/mitdb")) -> None:
    """Preparing recordings, cold and from the cache, beside bare wfdb reads of the same files."""
    from experiments import bench

    typer.echo(json.dumps(bench.data(folder), indent=1))


def main() -> None:
    """Run the command line; one clear line for every error, exit code 2 for the user's."""
    try:
        left = app(prog_name="wardround", standalone_mode=False)
        if left == 130:  # how typer tells of Ctrl-C
            raise KeyboardInterrupt
        sys.exit(left if isinstance(left, int) else 0)
    except WardroundError as error:
        if os.environ.get("WARDROUND_DEBUG"):
            raise
        typer.echo(f"wardround: {error}", err=True)
        sys.exit(error.exit_code)
    except typer.Exit as leave:
        sys.exit(leave.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("wardround: stopped; what was done so far is in the run's folder", err=True)
        sys.exit(130)
    except Exception as error:
        import click

        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
            sys.exit(error.exit_code)
        if isinstance(error, click.ClickException):
            place = getattr(error, "ctx", None)
            command = place.command_path if place else "wardround"
            what = " ".join(error.format_message().split())
            typer.echo(f"wardround: {what} (see {command} --help)", err=True)
            sys.exit(error.exit_code)
        if os.environ.get("WARDROUND_DEBUG"):
            raise
        text = str(error).strip().splitlines()
        typer.echo(
            f"wardround: unexpected {type(error).__name__}: {text[0] if text else ''} "
            "(a bug: run again with --debug before the command for the traceback)",
            err=True,
        )
        sys.exit(1)
