"""What a coordinator asks of a running SuperLink: register nodes, list them, start and stop runs.

These are direct calls of Flower's Control API, which the `flwr` command makes too; a command takes a process of one to
two seconds for each. The Control API has no login: its port must be reachable from the coordinator's machine alone.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.utils import simulation_config_from_json

from common.errors import ConfigError, EngineError

Answer = TypeVar("Answer")


class NoAnswer(EngineError):
    """The server gave no answer, or an error of its own or of a proxy: a later attempt may succeed."""


def build_bundle(files: Mapping[str, bytes]) -> bytes:
    """Return a run's bundle: a Flower app of these files, as a zip file with a list of their checksums."""
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    listed = "\n".join(f"{name},{sums[name]},{len(content) * 8}" for name, content in files.items())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, ".info/CONTENT": listed.encode()}.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _read_key(file: Path) -> bytes:
    if not file.is_file():
        raise ConfigError(f"no file {file}: name the public key that the hospital sent, such as north.pub")
    content = file.read_bytes()
    if b"PRIVATE KEY" in content:
        raise ConfigError(
            f"{file} is a private key, which never leaves its hospital: register its public half ({file.name}.pub), "
            "or that of a new key if this one was sent"
        )
    try:
        key = load_ssh_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(f"{file} is no public node key: it is made by 'wardround client keygen'")
    return public_key_to_bytes(key)


class Control:
    """Calls of one SuperLink's Control API.

    Args:
        address: HOST:PORT.
        ca: the certificate authority that signed its certificate; None: without TLS, on loopback alone.
    """

    def __init__(self, address: str, ca: Path | None) -> None:
        self._address, self._ca = address, ca

    def register_node(self, public_key: Path, name: str) -> int:
        """Admit the holder of a public key; return the node's number.

        Raises:
            ConfigError: the file holds no node key.
            EngineError: the server refuses it, as a key that it knows already.
        """
        request = RegisterNodeRequest(public_key=_read_key(public_key), name=name)
        return self._call("register a site", lambda client: client.RegisterNode(request)).node_id

    def find_node(self, public_key: Path) -> int | None:
        """Return the number of the node that is registered with a public key; None: there is none."""
        key = _read_key(public_key)
        answer = self._call("list the sites", lambda client: client.ListNodes(ListNodesRequest()))
        admitted = [node for node in answer.nodes_info if node.public_key == key and not node.unregistered_at]
        return admitted[0].node_id if admitted else None

    def unregister_node(self, node: int) -> None:
        """Refuse a node from now on."""
        self._call("unregister a site", lambda client: client.UnregisterNode(UnregisterNodeRequest(node_id=node)))

    def list_nodes(self) -> dict[int, str]:
        """Return the status of each node: `registered` (never seen), `online` or `offline`."""
        answer = self._call("list the sites", lambda client: client.ListNodes(ListNodesRequest()))
        return {node.node_id: node.status for node in answer.nodes_info}

    def start_run(self, bundle: bytes, simulation: Mapping[str, int] | None = None) -> int:
        """Start a run; return its number.

        Args:
            bundle: from `build_bundle`.
            simulation: settings of Flower's simulation, on a server that simulates its sites.
        """
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        config = simulation_config_from_json(dict(simulation)) if simulation else None
        request = StartRunRequest(fab=fab_to_proto(fab), override_federation_config=config)
        answer = self._call("start a run", lambda client: client.StartRun(request))
        if not answer.HasField("run_id"):
            raise EngineError(f"the server at {self._address} did not start the run: {answer.note or 'no reason'}")
        return answer.run_id

    def run_status(self, run: int) -> tuple[str, str]:
        """Return a run's status, such as `running` or `finished:failed`, and Flower's details."""
        answer = self._call("ask about a run", lambda client: client.ListRuns(ListRunsRequest(run_id=run)))
        status = answer.run_dict[run].status
        return ":".join(filter(None, (status.status, status.sub_status))), status.details

    def run_traffic(self, run: int) -> tuple[int, int]:
        """Return the bytes that the server has sent to and received from the sites of a run, as it counts them."""
        info = self._call("ask about a run", lambda client: client.ListRuns(ListRunsRequest(run_id=run))).run_dict[run]
        return info.bytes_sent, info.bytes_recv

    def read_traffic_by_run(self) -> dict[str, tuple[int, int]]:
        """Return the bytes (sent to the sites, received from them) of each run that the server knows, by run number."""
        runs = self._call("list the runs", lambda client: client.ListRuns(ListRunsRequest())).run_dict
        return {str(run): (info.bytes_sent, info.bytes_recv) for run, info in runs.items()}

    def stop_run(self, run: int) -> None:
        """Stop a run that has not finished; sites get no further work from it."""
        self._call("stop a run", lambda client: client.StopRun(StopRunRequest(run_id=run)))

    def _call(self, what: str, send: Callable[[ControlHttpClient], Answer]) -> Answer:
        """Return the answer to a call.

        Raises:
            NoAnswer: there is none.
            EngineError: it is a refusal; in one line.
        """
        client = ControlHttpClient.from_server_address(
            server_address=self._address,
            insecure=self._ca is None,
            root_certificates=self._ca.read_bytes() if self._ca else None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
        with closing(client):
            try:
                return send(client)
            except httpx.HTTPStatusError as error:
                known = FlowerError.from_json(error.response.text)
                why = known.message if known else f"status {error.response.status_code}"
                if known and known.public_details:
                    why = f"{why} ({known.public_details})"
                kind = NoAnswer if error.response.is_server_error else EngineError
                raise kind(f"the server at {self._address} refused to {what}: {' '.join(why.split())}") from None
            except httpx.HTTPError as error:
                raise NoAnswer(
                    f"the server at {self._address} gave no answer when asked to {what} ({type(error).__name__}): "
                    "check that it runs"
                ) from None
