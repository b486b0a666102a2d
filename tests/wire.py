"""A Grid of scripted sites, for tests of the server without any transport."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flwr.app import Error, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from client.policy import SIMULATION_POLICY, SitePolicy
from client.requests import handle
from client.site import Site
from client.site_context import SiteContext
from common import messages
from common.messages import MESSAGE_TYPES, Reply, Request, RequestKind

KINDS: dict[str, RequestKind] = {name: kind for kind, name in MESSAGE_TYPES.items()}
Answer = Reply | RecordDict | Error | None
Script = Callable[[Request], Answer]


class FakeGrid(Grid):
    """Nodes by number; each answers by its script, `None` is silence. `order` sorts what has arrived."""

    fixed_nodes = True

    def __init__(self, scripts: Sequence[Script], order: Callable[[Message], Any] | None = None) -> None:
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 0
        self.scripts = dict(enumerate(scripts, start=1))
        self.offline: set[int] = set()
        self.order = order or (lambda message: message.metadata.dst_node_id)
        self.sent: list[tuple[int, Request]] = []
        self._waiting: dict[str, Message] = {}
        self._count = 0

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        return Message(*args, **kwargs)

    def get_node_ids(self) -> list[int]:
        return [node for node in self.scripts if node not in self.offline]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for message in messages:
            self._count += 1
            name = str(self._count)
            message.metadata.__dict__["_message_id"] = name
            self._waiting[name] = message
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """One answer a call, in the order of `order`."""
        wanted = set(message_ids)
        for name, message in sorted(self._waiting.items(), key=lambda item: self.order(item[1])):
            node = message.metadata.dst_node_id
            if name not in wanted or node in self.offline:
                continue
            del self._waiting[name]
            request = messages.unpack_request(KINDS[message.metadata.message_type], message.content)
            self.sent.append((node, request))
            answer = self.scripts[node](request)
            if answer is None:
                continue
            content = messages.pack_reply(answer) if isinstance(answer, Reply) else answer
            reply = Message(content, reply_to=message)
            reply.metadata.__dict__["_reply_to_message_id"] = name
            return [reply]
        return []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        raise NotImplementedError


def site_script(site: Site, policy: SitePolicy = SIMULATION_POLICY) -> Script:
    """Return what a real site answers; needs `client.site.read_site` to return the site of a Place's name."""

    def answer(request: Request) -> Reply:
        return handle(SiteContext(policy, site=site.name), request)

    return answer
