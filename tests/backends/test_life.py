"""llamaproxy.backends.life: both kinds of backends show the pool the same face."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from llamaproxy.backends.command import Address, Command
from llamaproxy.backends.life import Life
from llamaproxy.backends.orphans import RunDirectory
from llamaproxy.backends.remote import Remote
from llamaproxy.backends.spawn import Spawn
from llamaproxy.config import EngineConfig
from llamaproxy.core.events import BackendExited, BackendReady
from tests.backends.processes import PATIENCE

pytestmark = pytest.mark.timeout(30)


def process(run: RunDirectory) -> Life:
    return Spawn("m", 1, Address(socket=run.socket("m", 1)), Command(("/nowhere",), {}), EngineConfig(), run)


def elsewhere(run: RunDirectory) -> Life:
    return Remote("m", 1, Address(url="http://127.0.0.1:1"), None, 1.0)


@pytest.mark.parametrize("begin", [process, elsewhere])
@pytest.mark.parametrize("order", ["stop", "kill", "nothing"])
async def test_every_life_ends_with_one_report(
    begin: Callable[[RunDirectory], Life], order: str, short_path: Path
) -> None:
    life = begin(RunDirectory(short_path / "run"))
    reports: list[BackendReady | BackendExited] = []
    life.suspect()
    if order != "nothing":
        await getattr(life, order)()
    await asyncio.wait_for(life.run(reports.append), PATIENCE)
    (event,) = reports
    assert isinstance(event, BackendExited)
    assert (event.model, event.spawn) == (life.model, life.number)
    assert (life.exited.is_set(), life.pid, life.crashed) == (True, None, False)
