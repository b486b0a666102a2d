"""`wardround server` and `wardround client`: the two ends of a federation of real hospitals."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.errors import ConfigError

if TYPE_CHECKING:
    from server.superlink import Connection

server_app = typer.Typer()
client_app = typer.Typer()
Address = Annotated[str, typer.Option(help="HOST:PORT of the running server.")]
State = Annotated[Path, typer.Option(help="Folder of certificates, keys and the server's database.")]


@server_app.callback(invoke_without_command=True)
def run_server(
    context: typer.Context,
    state: State = Path(".wardround/server"),
    listen: Annotated[str, typer.Option(help="HOST:PORT to listen on.")] = "127.0.0.1:8000",
) -> None:
    """Run the coordinator's server for real hospitals until Ctrl-C, or one of the commands below."""
    if context.invoked_subcommand:
        return
    import time

    from client.supernode import split_address
    from common.errors import EngineError
    from common.processes import interrupt_on_signals
    from server.credentials import Credentials
    from server.superlink import SuperLink

    host, port = split_address(listen)
    credentials = Credentials.in_folder(state.resolve())
    os.umask(0o077)  # what hospitals send is not for other users of this machine
    with interrupt_on_signals(), SuperLink(state.resolve(), credentials, host=host, port=port) as link:
        typer.echo(f"serving on {listen}, log in {link.log}; Ctrl-C stops it")
        while link.poll() is None:
            time.sleep(0.5)
        raise EngineError(f"the server process ended unexpectedly; see {link.log}")


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
    """Revoke a hospital's admission."""
    _connection(state, address).unregister(site)
    typer.echo(f"{site} is no longer admitted")


@server_app.command("nodes")
def server_nodes(state: State = Path(".wardround/server"), address: Address = "127.0.0.1:8000") -> None:
    """List the admitted hospitals and whether each is online."""
    for site, status in sorted(_connection(state, address).nodes().items()):
        typer.echo(f"{site}: {status}")


def _connection(state: Path, address: str) -> Connection:
    from server.credentials import Credentials
    from server.superlink import Connection

    state = state.resolve()
    ca = Credentials.in_folder(state).ca
    if not ca.is_file():
        raise ConfigError(
            f"no certificates in {state}: create them with wardround server init, or name their folder with --state"
        )
    return Connection(address, ca, state)


@client_app.command("keygen")
def client_keygen(
    key: Annotated[Path, typer.Argument(help="Where to write the private key.")] = Path(".wardround/node.key"),
) -> None:
    """Create this hospital's node key, and print the public half to send to the coordinator."""
    from client.supernode import create_node_key

    typer.echo(create_node_key(key.resolve()))


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
    from common.log_format import rotate_log, start_logging
    from common.processes import interrupt_on_signals

    config = read_site_settings(site, data, policy, state, superlink) if data is not None else {}
    settings = NodeSettings(site, superlink, ca.resolve(), key.resolve(), state.resolve(), config)
    worker = WorkerSocket(worker_socket.resolve(), find_user(worker_user)) if worker_socket is not None else None
    os.umask(0o077)  # what a client writes is its hospital's alone
    with interrupt_on_signals(), claim_state_folder(state.resolve(), site):
        node = Node(settings, worker=worker)
        rotate_log(node.log)
        start_logging(node.log)
        node.run(say=typer.echo)


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
) -> None:
    """Run the part of a client that reads the data under a user of its own, without any network, until Ctrl-C."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    from client.state_folder import claim_state_folder
    from client.worker import serve_worker
    from client.worker_socket import find_user, serve_socket
    from common.log_format import start_logging
    from common.processes import interrupt_on_signals

    config = read_site_settings(site, data, policy, state)
    user = find_user(node_user)
    os.umask(0o077)
    with interrupt_on_signals(), claim_state_folder(state.resolve(), site):
        start_logging()
        typer.echo(f"{site}: waiting for the node of user {node_user} at {socket}")
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
