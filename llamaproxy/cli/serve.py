"""`llamaproxy serve`: run the gateway until it is told to stop.

Owns the process: its logging, its event loop, its signals, what its service manager hears, and the order in which
things end.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import Coroutine

from llamaproxy.backends.orphans import UNIX_SOCKETS
from llamaproxy.cli import EXIT_CONFIGURATION, EXIT_FAILED, complain
from llamaproxy.cli.notify import Notifier
from llamaproxy.config import Config
from llamaproxy.configfile import Source
from llamaproxy.core.states import is_live
from llamaproxy.errors import ConfigError
from llamaproxy.server.app import Server
from llamaproxy.server.gateway import Gateway, check
from llamaproxy.server.listeners import Listeners
from llamaproxy.tasks import spawn
from llamaproxy.telemetry import logline
from llamaproxy.telemetry.console import ConsoleHandler
from llamaproxy.telemetry.redaction import REDACTION

log = logging.getLogger("llamaproxy")

_OBJECTS = 10_000
"""More objects than before, after which the garbage collector looks at the new ones."""


def run(arguments: argparse.Namespace) -> int:
    try:
        flags = {name: value for name in ("host", "port") if (value := getattr(arguments, name)) is not None}
        source = Source(arguments.config, {"server": flags} if flags else None)
        config = source.load()
        check(config)
    except ConfigError as error:
        complain(error.message)
        return EXIT_CONFIGURATION
    logline.set_up(config.telemetry.log_level, config.telemetry.log_format, REDACTION.redact, ConsoleHandler())
    log.info("configuration: %s", source.path or "defaults and environment")
    try:
        return _run_loop(_serve(config, source))
    except OSError as error:
        complain(error.strerror or str(error))
        return EXIT_FAILED


def _run_loop(main: Coroutine[None, None, int]) -> int:
    if not UNIX_SOCKETS:
        return asyncio.run(main)
    import uvloop

    return uvloop.run(main)


async def _serve(config: Config, source: Source) -> int:
    stop, force = asyncio.Event(), asyncio.Event()
    _handle_signals(stop, force)
    try:
        gateway = Gateway(config, source=source)
    except OSError as error:
        complain(f"no run directory for the engines' sockets: {error}")
        return EXIT_FAILED
    notifier = Notifier()
    server = Server(gateway)
    listeners = Listeners(config.server, server.inbounds())
    try:
        await listeners.start()
        url = _announce(gateway, listeners)
        _tell_manager(gateway, notifier, url)
        gateway.read_headers()
        gateway.preload()
        spare_collector()
        gateway.tidy()
        watching = spawn(gateway.reloader.watch(), name="watch-configuration")
        await stop.wait()
        watching.cancel()
        notifier.stopping("requests in flight end")
        log.info("shutting down: requests in flight have %.0f s to end", config.server.drain_timeout)
    finally:
        await _shut_down(gateway, server, listeners, force, config.server.drain_timeout)
    return 0


def spare_collector() -> None:
    """Nearly everything that requests leave behind goes by its reference counts. Looking through all that there is from
    the start, for the little that does not, would stop the gateway for 40 ms again and again.
    """
    gc.freeze()
    gc.set_threshold(_OBJECTS)


async def _shut_down(
    gateway: Gateway, server: Server, listeners: Listeners, force: asyncio.Event, drain_timeout: float
) -> None:
    """New requests are refused from now on, but still answered, until the last one in flight has ended."""
    hurrying = spawn(_hurry(gateway, force), name="hurry")
    if not await gateway.close(drain_timeout):
        log.warning("some requests were cut off")
    hurrying.cancel()
    await server.live.close()
    await listeners.close()
    await gateway.settle()
    log.info("stopped")


async def _hurry(gateway: Gateway, force: asyncio.Event) -> None:
    await force.wait()
    log.warning("told twice: stopping at once")
    gateway.pool.hurry()


def _handle_signals(stop: asyncio.Event, force: asyncio.Event) -> None:
    def told() -> None:
        (force if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        if UNIX_SOCKETS:
            loop.add_signal_handler(number, told)
        else:
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(told))


def _tell_manager(gateway: Gateway, notifier: Notifier, url: str) -> None:
    """That it is ready, and from now on whenever it reads its configuration again, and that it lives."""

    def status() -> str:
        live = sum(is_live(backend.state) for backend in gateway.pool.backends.values())
        return f"listening on {url}, {len(gateway.catalogue.models)} models, {live} of them with a process"

    async def reload() -> None:
        notifier.reloading()
        with contextlib.suppress(ConfigError):
            await gateway.reloader.reload()
        notifier.ready(status())

    notifier.ready(status())
    spawn(notifier.keep_alive(status), name="keep-alive")
    if UNIX_SOCKETS:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, lambda: spawn(reload(), name="reload"))


def _announce(gateway: Gateway, listeners: Listeners) -> str:
    """Its address, which is told to whoever has started it."""
    log.info("models: %s", ", ".join(gateway.catalogue.models) or "none")
    if missing := gateway.missing_engine():
        log.warning("%s", missing)
    url = listeners.urls["port"]
    for name, other in listeners.urls.items():
        if other != url:
            log.info("server.%s: listening on %s", name, other)
    print(f"llamaproxy is listening on {url} (OpenAI base URL {url}/v1)", flush=True)
    return url
