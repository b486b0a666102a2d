"""`wardround server` and `wardround client`: the two ends of a federation of real hospitals."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import ConfigError

if TYPE_CHECKING:
    from server.superlink import Connection

DEFAULT_ADDRESS = "127.0.0.1:8000"
server_app = typer.Typer()
client_app = typer.Typer()
Address = Annotated[
    str, typer.Option(help="HOST:PORT of the running server; default: where the server with this state folder runs.")
]
Metrics = Annotated[str, typer.Option(help="HOST:PORT to serve metrics for Prometheus on, such as 127.0.0.1:9101.")]
State = Annotated[Path, typer.Option(help="Folder of certificates, keys and the server's database.")]


@server_app.callback(invoke_without_command=True)
def run_server(
    context: typer.Context,
    state: State = Path(".wardround/server"),
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on; HOST must be of this machine alone.")] = (
        DEFAULT_ADDRESS
    ),
    metrics: Metrics = "",
    allow_public_address: Annotated[
        bool,
        typer.Option("--allow-public-address", help="Listen where others could connect: they could start runs."),
    ] = False,
) -> None:
    """Run the coordinator's server for real hospitals until Ctrl-C, or one of the commands below."""
    if context.invoked_subcommand:
        return
    from client.supernode import split_address
    from experiments.cli import services
    from server.credentials import Credentials
    from server.proxy import require_loopback
    from server.superlink import SuperLink

    host, port = split_address(listen)
    if not allow_public_address:
        require_loopback(host)
    state = state.resolve()
    credentials = Credentials.in_folder(state)
    os.umask(0o077)  # what hospitals send is not for other users of this machine
    link = SuperLink(state, credentials, host=host, port=port)
    watch = services.CertificateWatch(credentials.certificate, credentials.ca)
    stopped = (
        "hospitals try to connect again until it is started again; "
        "a run that was in progress goes on with: wardround run --resume RUN"
    )
    with services.run_as_service(state, link.log, link.connection.address, "", metrics, stopped) as service, link:
        services.say(f"serving on {listen}, log in {link.log}; Ctrl-C stops it")
        with services.offer_metrics(metrics, lambda exits: services.build_server_metrics(exits, link)):
            services.serve_until_stopped(link, service, watch)


@server_app.command("init")
def server_init(
    name: Annotated[list[str], typer.Option(help="A name or address by which hospitals reach the server; repeatable.")],
    state: State = Path(".wardround/server"),
) -> None:
    """Create a certificate authority and the server's certificate."""
    from server.credentials import create_credentials

    credentials = create_credentials(state.resolve(), name)
    typer.echo(f"created {credentials.ca} (give this file to every hospital) and the server's certificate and key")


@server_app.command("register")
def server_register(
    site: Annotated[str, typer.Argument(help="The hospital's name.")],
    public_key: Annotated[Path, typer.Argument(help="The public key file that the hospital sent.")],
    state: State = Path(".wardround/server"),
    address: Address = "",
) -> None:
    """Admit a hospital by its node key."""
    _connection(state, address).register(site, public_key.resolve())
    typer.echo(f"{site} is admitted")


@server_app.command("unregister")
def server_unregister(
    site: Annotated[str, typer.Argument(help="The hospital's name.")],
    state: State = Path(".wardround/server"),
    address: Address = "",
) -> None:
    """Revoke a hospital's admission."""
    _connection(state, address).unregister(site)
    typer.echo(f"{site} is no longer admitted")


@server_app.command("nodes")
def server_nodes(
    state: State = Path(".wardround/server"),
    address: Address = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the admitted hospitals and whether each is online."""
    nodes = _connection(state, address).nodes()
    if as_json:
        typer.echo(json.dumps(nodes, indent=1, sort_keys=True))
        return
    for site, status in sorted(nodes.items()):
        typer.echo(f"{site}: {status}")


def _connection(state: Path, address: str) -> Connection:
    from common.service_file import find_service
    from server.credentials import Credentials
    from server.superlink import Connection

    state = state.resolve()
    ca = Credentials.in_folder(state).ca
    if not ca.is_file():
        raise ConfigError(
            f"no certificates in {state}: create them with wardround server init, or name their folder with --state"
        )
    if not address:
        service = find_service(state)
        address = service.address if service is not None else DEFAULT_ADDRESS
    return Connection(address, ca, state)


@client_app.command("keygen")
def client_keygen(
    key: Annotated[Path, typer.Argument(help="Where to write the private key.")] = Path(".wardround/node.key"),
) -> None:
    """Create this hospital's node key, and print the public half to send to the coordinator."""
    from client.supernode import create_node_key

    typer.echo(create_node_key(key.resolve()))
    typer.echo(f"written: {key} (stays here) and {key}.pub (the key above: send it to the coordinator)", err=True)


@client_app.callback(invoke_without_command=True)
def run_client(
    context: typer.Context,
    site: Annotated[str, typer.Option(help="This hospital's name.")] = "",
    data: Annotated[Path | None, typer.Option(help="The folder that holds this hospital's data.")] = None,
    superlink: Annotated[str, typer.Option(help="HOST:PORT of the server.")] = "",
    ca: Annotated[Path, typer.Option(help="The authority's certificate from the coordinator.")] = Path("ca.pem"),
    key: Annotated[Path, typer.Option(help="This hospital's node key.")] = Path(".wardround/node.key"),
    policy: Annotated[Path | None, typer.Option(help="What this hospital allows (YAML).")] = None,
    state: Annotated[
        Path, typer.Option(help="Folder for this hospital's own state: logs, privacy ledger, local layers of runs.")
    ] = Path(".wardround/client"),
    worker_socket: Annotated[
        Path | None, typer.Option(help="Socket of a worker that runs under another user; --data is that worker's.")
    ] = None,
    worker_user: Annotated[str, typer.Option(help="The user that this worker runs under.")] = "",
    metrics: Metrics = "",
) -> None:
    """Run a hospital's client until Ctrl-C, or one of the commands below."""
    if context.invoked_subcommand:
        return
    if not site or (data is None) == (worker_socket is None) or not superlink:
        raise ConfigError(
            "wardround client needs --site NAME, --superlink HOST:PORT, and --data DIR or --worker-socket PATH"
        )
    if bool(worker_socket) != bool(worker_user):
        raise ConfigError("--worker-socket and --worker-user belong together")
    from client.node import Node
    from client.state_folder import claim_state_folder
    from client.supernode import NodeSettings
    from client.worker_socket import WorkerSocket, find_user
    from experiments.cli import services
    from experiments.monitoring.client_files import ClientFiles

    config = read_site_settings(site, data, policy, state, superlink) if data is not None else {}
    settings = NodeSettings(site, superlink, ca.resolve(), key.resolve(), state.resolve(), config)
    worker = WorkerSocket(worker_socket.resolve(), find_user(worker_user)) if worker_socket is not None else None
    os.umask(0o077)  # what a client writes is its hospital's alone
    state, node = state.resolve(), Node(settings, worker=worker)
    # the records of a worker under another user are that user's: it serves their metrics itself
    files = ClientFiles(site, state / "runs" if worker is None else None, policy, settings.ca)
    stopped = f"{site} takes no part in runs until its client is started again, with the same --state"
    with (
        claim_state_folder(state, site),
        services.run_as_service(state, node.log, superlink, site, metrics, stopped) as service,
        services.offer_metrics(metrics, lambda exits: services.build_client_metrics(exits, files, node)),
    ):
        services.attach_service(node, service, services.CertificateWatch(settings.ca))
        node.run(say=services.say)


@client_app.command("worker")
def client_worker(
    site: Annotated[str, typer.Option(help="This hospital's name.")],
    data: Annotated[Path, typer.Option(help="The folder that holds this hospital's data.")],
    socket: Annotated[Path, typer.Option(help="The socket to listen on.")],
    node_user: Annotated[str, typer.Option(help="The user that the node runs under; no other is served.")],
    policy: Annotated[Path | None, typer.Option(help="What this hospital allows (YAML).")] = None,
    state: Annotated[
        Path, typer.Option(help="Folder for this hospital's own state: privacy ledger, local layers of runs.")
    ] = Path(".wardround/worker"),
    metrics: Metrics = "",
) -> None:
    """Run the part of a client that reads the data under a user of its own, without any network, until Ctrl-C."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    from client.state_folder import claim_state_folder
    from client.worker import serve_worker
    from client.worker_socket import find_user, serve_socket
    from common.log_format import start_logging
    from experiments.cli import services
    from experiments.monitoring.client_files import ClientFiles

    config = read_site_settings(site, data, policy, state)
    user = find_user(node_user)
    os.umask(0o077)
    state = state.resolve()
    files = ClientFiles(site, state / "runs", policy, None)
    stopped = f"the node of {site} answers with errors until its worker is started again"
    start_logging()
    with (
        claim_state_folder(state, site),
        services.run_as_service(state, state / "worker.log", str(socket), site, metrics, stopped) as service,
        services.offer_metrics(metrics, lambda exits: services.build_client_metrics(exits, files, None)),
    ):
        services.say(f"{site}: waiting for the node of user {node_user} at {socket}")
        service.report_ready(f"waiting for the node of user {node_user}")
        with services.beat_in_background(service):
            serve_socket(socket.resolve(), user, lambda channel: serve_worker(channel, config))


def read_site_settings(
    site: str, data: Path, policy: Path | None, state: Path, server: str = ""
) -> dict[str, str | int | float | bool]:
    """Return the settings of a hospital's site, as client/site_context.py reads them; `server` is for its audit log.

    Raises:
        UsageError: the data folder is missing, or the policy is wrong.
    """
    from client.policy import load_policy
    from common.errors import DataError

    if not data.is_dir():
        raise DataError(f"no data folder {data}: give the folder that holds this hospital's data")
    load_policy(policy)
    config: dict[str, str | int | float | bool] = {"site": site, "data": str(data.resolve())}
    config |= {"state": str(state.resolve() / "runs"), "server": server}
    if policy is not None:
        config["policy"] = str(policy.resolve())
    return config
