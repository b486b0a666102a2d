"""A hospital's session with the coordinator's server: Flower's Fleet API over TLS, each request signed by the node key.

The SuperNode of Flower 1.41 asks for work every 3 s, serves an HTTP interface to processes of its own, and starts one
for every message. This session speaks the same protocol to the same server and leaves the pace to its caller.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    DeactivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import Message as MessageProto
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node as NodeProto
from flwr.proto.run_pb2 import GetRunRequest
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree, iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import (
    make_confirm_message_received_fn_protobuf,
    make_pull_object_fn_protobuf,
    make_push_object_fn_protobuf,
)
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    pull_objects,
    push_object_contents_from_iterable,
)
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from common.errors import ConfigError, EngineError

log = logging.getLogger("wardround.node")
HEARTBEAT_SECONDS = HEARTBEAT_DEFAULT_INTERVAL * 0.7
"""Seconds between two signs of life; the server counts a node as lost after twice the default interval."""
HELD_BYTES = 4096
"""Objects of this size are kept until the next message, which may hold them too: ids are digests of contents."""
PULL_SECONDS = 120.0
"""Most seconds to wait for the parts of a message that the server is still receiving itself."""
RETRY_SECONDS = 90.0
"""How long a part of a message is tried again where the network, a proxy or the server fails."""
LONGEST_RETRY_PAUSE = 5.0
"""Most seconds between two of these attempts."""
Answer = TypeVar("Answer")


class NodeRefused(EngineError):
    """The server does not know the node key, or counts the key's last session as open: it does not say which."""


class ServerUnavailable(EngineError):
    """The server gave no answer, or one that a later attempt may not get."""


class RunEnded(EngineError):
    """The run that a message belongs to is no longer running: nobody waits for the reply."""


@dataclass(frozen=True)
class Delivery:
    """A message from the server.

    Attributes:
        head: its description, without content.
        objects: its serialised objects by id.
    """

    head: Message
    objects: dict[str, bytes]


class FleetSession:
    """A session with the server; `open` it, then `pull` and `push`, then `close`.

    Args:
        address: the server, HOST:PORT.
        ca: file of the certificate authority that signed its certificate.
        key: file of the private node key.

    Attributes:
        node: the node's number at the server; 0 before `open`.
        beat: called between attempts to send or receive a part of a message.

    Raises:
        ConfigError: the key cannot be read.
    """

    def __init__(self, address: str, ca: Path, key: Path) -> None:
        try:
            private = load_ssh_private_key(key.read_bytes(), None)
        except (OSError, ValueError):
            private = None
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{key} is no node key: make one with 'wardround client keygen'")
        self._public = public_key_to_bytes(private.public_key())
        self._client = FleetHttpClient.from_server_address(
            address,
            False,
            ca.read_bytes(),
            interceptors=[
                RuntimeVersionHttpInterceptor(component_name="SuperNode"),
                NodeAuthHttpInterceptor(private, private.public_key()),
            ],
        )
        self.address = address
        self.node = 0
        self.beat: Callable[[], None] = lambda: None
        self._held: dict[str, bytes] = {}
        self._closing = threading.Event()

    def open(self, last_node: int = 0) -> int:
        """Sign on; return the node's number.

        Args:
            last_node: the number that this key's last session had, if that session may still count as open: it is
                ended first, because the server would otherwise refuse a new one for about a minute.

        Raises:
            NodeRefused: the server does not admit the key, or counts another session of it as open.
            ServerUnavailable: it gave no answer.
        """
        if last_node:
            with suppress(EngineError):  # it has ended already
                self._call(lambda: self._client.DeactivateNode(DeactivateNodeRequest(node_id=last_node)))
        request = ActivateNodeRequest(public_key=self._public, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        self.node = self._call(lambda: self._client.ActivateNode(request)).node_id
        threading.Thread(target=self._send_heartbeats, daemon=True, name="heartbeat").start()
        return self.node

    def pull(self) -> Delivery | None:
        """Return the next message, or None if there is none now.

        Raises:
            NodeRefused: the server does not admit the key any more.
            ServerUnavailable: it gave no answer.
        """
        answer = self._call(lambda: self._client.PullMessages(PullMessagesRequest(node=self._sender)))
        if not answer.messages_list:
            return None
        head, tree = message_from_proto(answer.messages_list[0]), answer.message_object_trees[0]
        run = head.metadata.run_id
        pull = make_pull_object_fn_protobuf(self._client.PullObject, self._sender, run)
        confirm = make_confirm_message_received_fn_protobuf(self._client.ConfirmMessageReceived, self._sender, run)
        names = {each.object_id for each in iterate_object_tree(tree)}
        held = {name: content for name, content in self._held.items() if name in names}
        try:
            objects = held | self._call(
                lambda: pull_objects(
                    sorted(names - set(held)),
                    lambda name: self._retry(lambda: pull(name)),
                    max_time=PULL_SECONDS,
                    initial_backoff=0.05,
                    backoff_cap=1.0,
                )
            )
            self._call(lambda: self._retry(lambda: confirm(head.metadata.message_id)))
        except (EngineError, ObjectPullError) as error:
            log.warning("a message of run %s could not be received: %s", run, error)
            with suppress(EngineError):
                self.push_error(head, "the message could not be received")
            return None
        self._held = {name: content for name, content in objects.items() if len(content) >= HELD_BYTES}
        return Delivery(head, objects)

    def fetch_bundle(self, run: int) -> bytes:
        """Return the bundle of a run, a Flower app as a zip file, as the server holds it.

        Raises:
            EngineError: the server does not give it.
        """
        info = self._call(lambda: self._client.GetRun(GetRunRequest(node=self._sender, run_id=run))).run
        request = GetFabRequest(node=self._sender, hash_str=info.fab_hash, run_id=run)
        return self._call(lambda: self._client.GetFab(request)).fab.content

    def push(self, message: bytes, tree: bytes, objects: dict[str, bytes], seconds: float) -> None:
        """Send a reply.

        Args:
            message: its description, as serialised by Flower.
            tree: the tree of its objects, likewise.
            objects: its objects by id.
            seconds: how long the work took.

        Raises:
            RunEnded: nobody waits for it.
            EngineError: it could not be sent.
        """
        head = MessageProto.FromString(message)
        request = PushMessagesRequest(
            node=self._sender,
            messages_list=[head],
            message_object_trees=[ObjectTree.FromString(tree)],
            clientapp_runtime_list=[seconds],
        )
        answer = self._call(lambda: self._retry(lambda: self._client.PushMessages(request)))
        run = head.metadata.run_id
        names, session = list(answer.objects_to_push), answer.session_id
        if repeated := not names:  # a reply lacks its own head at least: the answer to an earlier attempt was lost
            names, session = list(objects), ""  # without a session's name the server looks for the one that lacks it
        push = make_push_object_fn_protobuf(self._client.PushObject, self._sender, run, session)
        try:
            self._call(
                lambda: push_object_contents_from_iterable(
                    [(name, objects[name]) for name in names],
                    lambda name, content: self._push_object(push, name, content, repeated=repeated),
                )
            )
        except ObjectPushError as error:
            raise EngineError(f"the server did not take the whole reply: {error}") from None

    def _push_object(self, push: Callable[[str, bytes], None], name: str, content: bytes, *, repeated: bool) -> None:
        """Send an object; one that the server does not lack counts as sent if an earlier attempt may have sent it."""
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            try:
                push(name, content)
            except ObjectPushError:
                if attempts == 1 and not repeated:
                    raise

        self._retry(attempt)

    def push_error(self, head: Message, reason: str, code: int = 0) -> None:
        """Answer a message with an error.

        Raises:
            EngineError: it could not be sent.
        """
        self._push_whole(head, Error(code=code, reason=reason))

    def push_content(self, head: Message, content: RecordDict) -> None:
        """Answer a message with a content that this process made.

        Raises:
            EngineError: it could not be sent.
        """
        self._push_whole(head, content)

    def _push_whole(self, head: Message, answer: Error | RecordDict) -> None:
        meta = head.metadata
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = meta.run_id, meta.dst_node_id, 0
        reply = Message(answer, reply_to=head)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        objects = {name: item.deflate() for name, item in get_all_nested_objects(reply).items()}
        proto = message_to_proto(remove_content_from_message(reply)).SerializeToString()
        self.push(proto, get_object_tree(reply).SerializeToString(), objects, 0.0)

    def is_running(self, run: int) -> bool:
        """Return whether somebody still waits for replies of a run; True where the server does not say."""
        try:
            self._call(lambda: self._client.GetRun(GetRunRequest(node=self._sender, run_id=run)))
        except RunEnded:
            return False
        except EngineError:
            return True
        return True

    def close(self) -> bool:
        """Sign off, so that the server counts the node as offline at once; return whether the server confirmed it.

        A session that was never opened signs off nothing.
        """
        self._closing.set()
        try:
            if self.node:
                self._call(lambda: self._client.DeactivateNode(DeactivateNodeRequest(node_id=self.node)))
        except EngineError:
            return False
        finally:
            self._client.close()
        return self.node != 0

    @property
    def _sender(self) -> NodeProto:
        return NodeProto(node_id=self.node)

    def _call(self, send: Callable[[], Answer]) -> Answer:
        """Return what a call gives, its errors as this program's."""
        try:
            return send()
        except httpx.HTTPStatusError as error:
            raise _translate_status(error, self.address) from None
        except httpx.HTTPError as error:
            raise ServerUnavailable(f"no answer from {self.address} ({type(error).__name__})") from None

    def _retry(self, send: Callable[[], Answer]) -> Answer:
        """Return what a call gives, trying again for a while where the network or a proxy fails."""
        pause, deadline = 0.2, time.monotonic() + RETRY_SECONDS
        while True:
            try:
                return send()
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 503
                lasting = status < 500 and status != httpx.codes.TOO_MANY_REQUESTS  # by which a proxy limits calls
                if lasting or time.monotonic() + pause > deadline or self._closing.wait(pause):
                    raise
                self.beat()
                pause = min(2 * pause, LONGEST_RETRY_PAUSE)

    def _send_heartbeats(self) -> None:
        request = SendNodeHeartbeatRequest(node=self._sender, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
        pause = HEARTBEAT_SECONDS
        while not self._closing.wait(pause):
            try:
                self._call(lambda: self._client.SendNodeHeartbeat(request))
                pause = HEARTBEAT_SECONDS
            except EngineError as error:
                log.warning("no sign of life could be sent: %s", error)
                pause = 5.0


def _translate_status(error: httpx.HTTPStatusError, address: str) -> EngineError:
    status = error.response.status_code
    known = FlowerError.from_json(error.response.text)
    if status == httpx.codes.UNAUTHORIZED or (known and known.code == ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED):
        return NodeRefused(f"{address} does not admit this node")
    if known and known.code == ApiErrorCode.FLEET_RUN_STATUS_NOT_ALLOWED:
        return RunEnded("the run has ended")
    why = known.message if known else error.response.reason_phrase
    return ServerUnavailable(f"{address} answered with status {status} ({why})")
