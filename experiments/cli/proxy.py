"""`wardround server proxy`: write and check the configuration of nginx in front of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from experiments.cli.operations import ServerState


def proxy_command(
    folder: Annotated[Path, typer.Argument(help="Folder for the configuration and nginx's own files.")],
    name: Annotated[str, typer.Option(help="The name or address by which hospitals reach the proxy.")],
    state: ServerState = Path(".wardround/server"),
    listen: Annotated[str, typer.Option(help="HOST:PORT that hospitals connect to.")] = "0.0.0.0:443",
    server: Annotated[str, typer.Option(help="HOST:PORT of the server behind it.")] = "127.0.0.1:8000",
    certificate: Annotated[
        Path | None, typer.Option(help="Certificate to show, with its chain; default: a copy of the server's.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The private key of --certificate.")] = None,
    calls: Annotated[
        int, typer.Option(min=1, help="Calls a second from one address; ten times as many at once.")
    ] = 100,
    connections: Annotated[int, typer.Option(min=1, help="Connections from one address.")] = 100,
    body: Annotated[int, typer.Option(min=6, help="Most MiB of one call; weights travel in pieces of 5 MiB.")] = 16,
    user: Annotated[str, typer.Option(help="The user that nginx runs under, who gets the folder; needs root.")] = "",
    nginx: Annotated[str, typer.Option(help="The program nginx.")] = "nginx",
) -> None:
    """Write an nginx configuration that lets hospitals reach their calls and nothing else, and check it with nginx."""
    from client.supernode import split_address
    from common.errors import ConfigError
    from server.credentials import Credentials
    from server.proxy import ProxySettings, require_loopback, write_proxy

    for address in (listen, server):
        split_address(address)
    require_loopback(split_address(server)[0])
    state = state.resolve()
    credentials = Credentials.in_folder(state)
    if not credentials.certificate.is_file():
        raise ConfigError(f"no certificates in {state}: make them with wardround server init, or name it with --state")
    settings = ProxySettings(
        folder.resolve(),
        listen,
        server,
        name,
        certificate=certificate.resolve() if certificate else None,
        key=key.resolve() if key else None,
        calls_per_second=calls,
        connections=connections,
        body_mib=body,
        user=user,
    )
    config = write_proxy(settings, credentials, nginx)
    typer.echo(f"wrote {config}, and nginx accepts it; start it as the user that owns {folder}: nginx -c {config}")
