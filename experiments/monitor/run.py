"""Running a monitor until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

from experiments.monitor.service import Running, Settings, run_service

Meanwhile = Callable[[Running], Awaitable[None]]


def serve(settings: Settings, echo: Callable[[str], None], meanwhile: Meanwhile | None = None) -> None:
    """Run a monitor until SIGTERM or Ctrl-C.

    Args:
        settings: its settings.
        echo: prints a line.
        meanwhile: what else runs on its event loop; an error in it ends the monitor.

    Raises:
        ConfigError: a setting is wrong.
        EngineError: an address cannot be listened on, or a worker does not start.
    """
    asyncio.run(_serve(settings, echo, meanwhile))


async def _serve(settings: Settings, echo: Callable[[str], None], meanwhile: Meanwhile | None) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with run_service(settings, echo) as running:
        echo(f"page: {running.url}")
        echo(f"token of a person, for the page: {running.tokens.first('person').token}")
        echo(f"tokens: {settings.state / 'tokens.json'}; stop with Ctrl-C")
        if running.udp_port is not None:
            echo(f"UDP port: {running.udp_port}")
        waiting = asyncio.create_task(stopped.wait())
        other = asyncio.create_task(_await(meanwhile, running, stopped))
        await asyncio.wait({waiting, other}, return_when=asyncio.FIRST_COMPLETED)
        for task in (waiting, other):
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if other.done() and not other.cancelled():
            other.result()
        echo("stopping")


async def _await(meanwhile: Meanwhile | None, running: Running, stopped: asyncio.Event) -> None:
    if meanwhile is not None:
        await meanwhile(running)
    await stopped.wait()
