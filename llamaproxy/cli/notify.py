"""Telling the service manager how the gateway is: systemd's notification protocol, by hand.

Owns the socket and the lines. Without $NOTIFY_SOCKET nothing is told; telling never waits and never fails.
Source: sd_notify(3), sd_watchdog_enabled(3).
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

log = logging.getLogger(__name__)

_WITHOUT_WATCHDOG = 30.0
"""Seconds between two statuses where nobody waits for a sign of life."""


class Notifier:
    """What the environment of a service says: where to tell, and how often a sign of life is wanted."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # A name that begins with @ stands for one in the abstract namespace, which begins with NUL.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog = _watchdog(environ)

    @property
    def interval(self) -> float:
        """Seconds between two signs of life: half of what the manager waits."""
        return self._watchdog / 2 if self._watchdog else _WITHOUT_WATCHDOG

    def ready(self, status: str) -> None:
        self._tell("READY=1", _status(status))

    def reloading(self) -> None:
        """To be followed by `ready`."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        self._tell("STOPPING=1", _status(status))

    async def keep_alive(self, status: Callable[[], str]) -> None:
        """Until cancelled. It comes from the event loop, so that one that hangs is noticed."""
        while self._address:
            self._tell(*(["WATCHDOG=1"] if self._watchdog else []), _status(status()))
            await asyncio.sleep(self.interval)

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as way:
                way.setblocking(False)
                way.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.debug("the service manager was not told %s: %s", lines[0], error)


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"


def _watchdog(environ: Mapping[str, str]) -> float | None:
    """Seconds after which the manager takes this process for dead; None where it does not look."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        return int(environ.get("WATCHDOG_USEC", "0")) / 1e6 or None
    except ValueError:
        return None
