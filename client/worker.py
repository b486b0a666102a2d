"""The worker of a hospital: one process that holds imports, data and model, and answers message after message.

The SuperNode (client/supernode.py) starts it and hands it messages over a channel (client/worker_channel.py); the
worker has no connection to any network. It runs `client.app` of this installation: a message carries a configuration
and weights, and nothing that is executed.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection

from flwr.app import Context, Error, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.clientapp import ClientApp
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity

from client.app import app as client_app
from client.app import refuse_unreadable
from client.uncompiled_torch import skip_compiler
from client.worker_channel import ChannelClosed, Parcel, receive_parcel, send_parcel
from common.errors import ProtocolError
from common.log_format import start_logging
from common.messages import ERROR_CODE, pack_error
from common.packed_messages import is_packed, pack_content, unpack_content
from common.process_guard import end_with_parent

log = logging.getLogger("wardround.site")
ALIVE_SECONDS = 5.0
"""Seconds between two signs of life."""
MAX_SITES = 2
"""Loaded forms of the site's data that may be held at the same time; a run has one."""
IDLE_SECONDS = 600.0
"""Seconds without a message after which the worker forgets the patients' data that it holds."""


class Worker:
    """Answers requests for one site.

    Attributes:
        node_config: the site's settings, as client/site_context.py reads them.
        app: what answers a message.
    """

    def __init__(self, node_config: Mapping[str, str | int | float | bool], app: ClientApp = client_app) -> None:
        self.node_config, self.app = dict(node_config), app
        self._run = ""

    def answer(self, request: Parcel) -> Parcel:
        """Return the reply to a request; every error becomes one, without the site's data."""
        run, node = str(request.fields["run"]), int(request.fields["node"])
        if run != self._run:  # what is on the disk may have changed since the last run
            forget_data()
            self._run = run
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = int(run), node, 0
        root = str(request.fields["root"])
        message = inflate_object_from_contents(root, dict(request.objects))
        if not isinstance(message, Message):
            raise ChannelClosed("the SuperNode sent something else than a message")
        message.metadata.__dict__["_message_id"] = root  # the serialised message does not hold its own id
        packed = is_packed(message.content)
        context = Context(
            run_id=int(run), node_id=node, node_config=self.node_config, state=RecordDict(), run_config={}
        )
        try:
            if packed:
                message.content = unpack_content(message.content)
            reply = self.app(message, context)
        except Exception as error:  # client.app answers its own errors; this one is not its
            log.exception("the app failed")
            text = str(error) if isinstance(error, ProtocolError) else "the site's app failed"
            refuse_unreadable(self.node_config, run, message.metadata.message_type, error)
            reason = pack_error(str(self.node_config.get("site", "")), type(error).__name__, text)
            reply = Message(Error(code=ERROR_CODE, reason=reason), reply_to=message)
        if packed and reply.has_content():
            reply.content = pack_content(reply.content)
        return pack_message(reply)


def pack_message(message: Message) -> Parcel:
    """Return a reply as a parcel: Flower's description of it, its object tree and its objects."""
    message.metadata.__dict__["_message_id"] = message.object_id
    with no_object_id_recompute():
        tree = get_object_tree(message)
        objects = {name: item.deflate() for name, item in get_all_nested_objects(message).items()}
        proto = message_to_proto(remove_content_from_message(message))
    fields = {"message": proto.SerializeToString().hex(), "tree": tree.SerializeToString().hex()}
    return Parcel("reply", fields, objects)


def forget_data() -> None:
    """Drop the patients' data and models that this process holds."""
    from client.requests.loaded_model import forget_models
    from client.site import forget_sites

    forget_models()
    forget_sites()
    gc.collect()


def is_crowded() -> bool:
    """Return whether more data are held than one run needs, as when a run changes its settings."""
    from client.site import count_loaded_sites

    return count_loaded_sites() > MAX_SITES


def serve_worker(
    channel: Connection, node_config: Mapping[str, str | int | float | bool], app: ClientApp = client_app
) -> None:
    """Answer requests with an app until the SuperNode closes the channel.

    Raises:
        ChannelClosed: always, in the end.
    """
    worker, sending = Worker(node_config, app), threading.Lock()
    threading.Thread(target=_show_life, args=(channel, sending), daemon=True, name="sign of life").start()
    skip_compiler()
    importlib.import_module("client.requests")  # slow to import, so before the first message
    with sending:
        send_parcel(channel, Parcel("ready"))
    while True:
        if not channel.poll(IDLE_SECONDS):
            forget_data()
        reply = worker.answer(receive_parcel(channel))
        with sending:
            send_parcel(channel, reply)
        if is_crowded():
            forget_data()


def _show_life(channel: Connection, sending: threading.Lock) -> None:
    with suppress(ChannelClosed):
        while True:
            time.sleep(ALIVE_SECONDS)
            with sending:
                send_parcel(channel, Parcel("alive"))


def main() -> None:
    """Run the worker of the command line: the channel's file number and the SuperNode's process id."""
    number, parent = (int(text) for text in sys.argv[1:3])
    end_with_parent(parent)
    os.umask(0o077)
    start_logging()
    channel = Connection(number)
    with suppress(ChannelClosed, KeyboardInterrupt):
        serve_worker(channel, receive_parcel(channel).fields)


if __name__ == "__main__":
    main()
