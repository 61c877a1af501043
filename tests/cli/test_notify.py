"""llamaproxy.cli.notify: what a service manager hears, on a socket as it has one."""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaproxy.cli.notify import Notifier
from llamaproxy.tasks import spawn
from tests.gateway import PATIENCE, GatewayProcess, fake_model

Manager = tuple[socket.socket, str]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no Unix sockets")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """A socket, and what $NOTIFY_SOCKET says of it."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("only Linux has abstract sockets")
    name = str(tmp_path / "n") if request.param == "path" else f"@llamaproxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        listening.settimeout(PATIENCE)
        yield listening, name


def heard(manager: Manager) -> list[str]:
    return manager[0].recv(4096).decode().splitlines()


def test_states(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager[1]})
    notifier.ready("two\nlines")
    assert heard(manager) == ["READY=1", "STATUS=two lines"]
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = heard(manager)
    name, _, value = second.partition("=")
    assert (first, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before <= int(value) <= time.monotonic_ns() // 1000
    notifier.stopping("bye")
    assert heard(manager) == ["STOPPING=1", "STATUS=bye"]


async def test_signs_of_life_come_at_half_the_interval(manager: Manager) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager[1], "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())})
    assert notifier.interval == 0.01
    manager[0].setblocking(False)
    task = spawn(notifier.keep_alive(lambda: "fine"), name="keep-alive")
    loop = asyncio.get_running_loop()
    for _ in range(3):
        told = await asyncio.wait_for(loop.sock_recv(manager[0], 4096), PATIENCE)
        assert told.decode().splitlines() == ["WATCHDOG=1", "STATUS=fine"]
    task.cancel()


@pytest.mark.parametrize("environ", [{"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "often"}, {"WATCHDOG_USEC": "0"}])
def test_a_watchdog_that_is_none_of_ours(environ: dict[str, str]) -> None:
    assert Notifier({"WATCHDOG_USEC": "1000000", **environ}).interval == 30


@pytest.mark.parametrize("name", ["", "/no/such/socket", "x" * 200, "@"])
async def test_nobody_who_listens_is_no_fault(name: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("x")
    if not name:
        await notifier.keep_alive(lambda: "nobody asks")


async def test_a_gateway_from_its_start_to_its_end(manager: Manager, tmp_path: Path) -> None:
    """As systemd sees it; its engines know nothing of the socket."""
    environment = {"NOTIFY_SOCKET": manager[1], "WATCHDOG_USEC": "60000000"}
    gateway = GatewayProcess(tmp_path, {"models": {"m": fake_model(tmp_path, "m")}}, environment)
    manager[0].setblocking(False)
    loop = asyncio.get_running_loop()

    async def told(word: str) -> str:
        """What follows this word, signs of life left out."""
        async with asyncio.timeout(PATIENCE):
            while not (lines := (await loop.sock_recv(manager[0], 4096)).decode().splitlines())[0].startswith(word):
                assert lines[0] == "WATCHDOG=1"
        return lines[-1]

    async with gateway.running():
        assert "listening on http://127.0.0.1:" in await told("READY=1")
        assert "1 model" in await told("WATCHDOG=1")
        gateway.signal(signal.SIGHUP)
        assert (await told("RELOADING=1")).startswith("MONOTONIC_USEC=")
        await told("READY=1")
        gateway.signal(signal.SIGTERM)
        await told("STOPPING=1")
        assert await gateway.wait() == 0
