"""What becomes of the rows of requests when the gateway is killed, or its database cannot be written."""

import asyncio
import contextlib
import itertools
import os
import resource
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from llamaproxy.tasks import spawn
from llamaproxy.telemetry.spool import MOST_ROWS
from tests.gateway import PATIENCE, Client, GatewayProcess, Table, chat_body, fake_model, until

GONE = (aiohttp.ClientError, ConnectionError)
QUICK = {"FAKE_TOKEN_SECONDS": "0.0005"}


def database(folder: Path) -> Path:
    return folder / "state" / "llamaproxy" / "llamaproxy.db"


def ask(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def ids(path: Path) -> list[str]:
    return [name for (name,) in ask(path, "SELECT id FROM requests")]


class Load:
    """Clients that ask until nobody answers any more, or they are told to stop; `delivered` are the requests whose
    whole answer they have, `slowest` says for how many seconds one was waited for at most.
    """

    def __init__(self, gateway: GatewayProcess, pause: float = 0) -> None:
        """`pause` in seconds, of each client after each answer."""
        self._gateway = gateway
        self._pause = pause
        self._numbers = itertools.count()
        self.delivered: set[str] = set()
        self.good = 0
        self.slowest = 0.0
        self.stopping = False

    async def run(self, session: aiohttp.ClientSession) -> None:
        bodies: list[Mapping[str, Any]] = [
            {**chat_body("a"), "max_tokens": 3},
            {**chat_body("b"), "max_tokens": 20, "stream": True},
            {**chat_body("nobody's")},
        ]
        await asyncio.gather(*(self._ask(session, body) for body in bodies * 3))

    async def _ask(self, session: aiohttp.ClientSession, body: Mapping[str, Any]) -> None:
        with contextlib.suppress(*GONE):
            while not self.stopping:
                name, begun = f"r-{next(self._numbers)}", time.monotonic()
                url = f"{self._gateway.url}/v1/chat/completions"
                async with session.post(url, json=body, headers={"X-Request-Id": name}) as response:
                    await response.read()
                    self.good += response.status == 200
                self.delivered.add(name)
                self.slowest = max(self.slowest, time.monotonic() - begun)
                await asyncio.sleep(self._pause)

    @property
    def asked(self) -> int:
        return next(self._numbers)


@pytest.mark.parametrize("times", [10, pytest.param(60, marks=pytest.mark.soak)])
@pytest.mark.timeout(600)
async def test_every_answer_that_was_delivered_has_its_row_after_a_kill(tmp_path: Path, times: int) -> None:
    models = {name: fake_model(tmp_path, name, env=QUICK) for name in "ab"}
    gateway = GatewayProcess(tmp_path, {"models": models})
    load, path = Load(gateway), database(tmp_path)
    async with gateway.running():
        for round in range(times):
            load.good = 0
            async with aiohttp.ClientSession() as session:
                running = asyncio.gather(load.run(session))
                await until(lambda: load.good > 20, "it is at work")
                await asyncio.sleep(round % 7 / 100)
                gateway.signal(signal.SIGKILL)
                await gateway.wait()
                await running
            await gateway.start()
            await until(lambda: load.delivered <= set(ids(path)), "every answer has a row", 5)
        assert ask(path, "PRAGMA integrity_check") == [("ok",)]
        twice = [name for name, count in Counter(ids(path)).items() if count > 1]
        assert not twice
        assert "Traceback" not in gateway.log
    states = dict(ask(path, "SELECT state, count(*) FROM requests GROUP BY state"))
    assert {"ok", "rejected"} <= states.keys() <= {"ok", "rejected", "client_abort", "truncated", "upstream_error"}
    assert not list(path.parent.glob("*-unwritten-*")), "what was left behind is taken over"


async def test_rows_of_a_drained_gateway_are_all_that_it_received(tmp_path: Path) -> None:
    models = {name: fake_model(tmp_path, name, env=QUICK) for name in "ab"}
    gateway = GatewayProcess(tmp_path, {"models": models, "limits": {"queue_size": 1000}})
    connector = aiohttp.TCPConnector(limit=0)
    async with gateway.running(), aiohttp.ClientSession(connector=connector) as session:
        client = Client(gateway, session)
        asked = [client.chat("ab"[number % 2] if number % 10 else "nobody's", max_tokens=2) for number in range(1000)]
        answers = Counter(status for status, _ in await asyncio.gather(*asked))
        totals = await client.totals()
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait() == 0
    assert totals == {"received": 1000, "in_flight": 0, "ok": answers[200], "rejected": answers[404]}
    assert dict(ask(database(tmp_path), "SELECT state, count(*) FROM requests GROUP BY state")) == {
        "ok": answers[200],
        "rejected": answers[404],
    }


async def test_history_is_there_after_a_restart(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {"models": {"m": fake_model(tmp_path, "m")}})
    async with aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        async with gateway.running():
            await client.chat("m")
        async with gateway.running():
            await client.chat("m")
            first, second = reversed(await client.rows())
            assert (first["state"], second["state"]) == ("ok", "ok")
            assert first["started_at"] < second["started_at"]
            assert (await client.totals())["received"] == 1
    folder = database(tmp_path).parent
    assert [oct(path.stat().st_mode & 0o777) for path in (folder, database(tmp_path))] == ["0o700", "0o600"]


class TestDatabaseThatCannotBeWritten:
    """Serving goes on as if nothing were; the rows come later."""

    async def serves_and_recovers(self, gateway: GatewayProcess, client: Client, mend: Any, reason: str) -> None:
        for _ in range(20):
            assert (await client.chat("m", max_tokens=1))[0] == 200
        await self.health(client, lambda told: told["status"] == "degraded")
        told = await client.get("/api/health")
        assert reason in told["requests"]["error"]
        assert told["requests"]["spooled_rows"] >= 20
        assert len(await client.rows()) >= 20, "what waits is shown all the same"
        mend()
        await self.health(client, lambda told: told["status"] == "ok" and told["requests"]["spooled_rows"] == 0)

    async def health(self, client: Client, condition: Any) -> None:
        end = time.monotonic() + PATIENCE
        while not condition(told := await client.get("/api/health")):
            assert time.monotonic() < end, told
            await asyncio.sleep(0.05)

    def config(self, folder: Path) -> dict[str, Table]:
        return {"models": {"m": fake_model(folder, "m")}}

    async def test_locked_by_another_process(self, tmp_path: Path) -> None:
        gateway = GatewayProcess(tmp_path, self.config(tmp_path))
        async with gateway.running(), aiohttp.ClientSession() as session:
            client = Client(gateway, session)
            await client.chat("m")
            await until(lambda: len(ids(database(tmp_path))) == 1, "the row is written")
            with contextlib.closing(sqlite3.connect(database(tmp_path), isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await self.serves_and_recovers(gateway, client, lambda: other.execute("ROLLBACK"), "locked")
        assert len(ids(database(tmp_path))) == 21

    @pytest.mark.parametrize("fault", ["locked", "full"])
    @pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.soak)])
    @pytest.mark.timeout(180)
    async def test_for_long_under_load(self, tmp_path: Path, fault: str, seconds: float) -> None:
        """The load ends before the fault does: no request has waited for it. It is no more than the spool can hold."""
        models = {name: fake_model(tmp_path, name, env=QUICK) for name in "ab"}
        gateway, path = GatewayProcess(tmp_path, {"models": models}), database(tmp_path)
        load = Load(gateway, pause=9 * seconds / MOST_ROWS)
        async with gateway.running(), aiohttp.ClientSession() as session:
            client, running = Client(gateway, session), spawn(load.run(session), name="load")
            await until(lambda: load.good > 20 and ids(path), "it is at work, and rows are written")
            with self.broken(gateway, path, fault):
                load.slowest = 0.0
                await asyncio.sleep(seconds)
                load.stopping = True
                await running
                told = await client.get("/api/health")
            assert (told["status"], told["requests"]["lost_rows"]) == ("degraded", 0)
            print(
                f"{fault} for {seconds} s: {told['requests']['spooled_rows']} rows wait, slowest {load.slowest:.3f} s"
            )
            assert told["requests"]["spooled_rows"] > 20 * seconds
            assert len(load.delivered) == load.asked, "every request was answered"
            await self.health(client, lambda told: told["status"] == "ok" and not told["requests"]["spooled_rows"])
            assert sorted(ids(path)) == sorted(load.delivered)

    @contextlib.contextmanager
    def broken(self, gateway: GatewayProcess, path: Path, fault: str) -> Iterator[None]:
        """By another process's lock, or by a limit of the gateway's own, which does what a full disk does."""
        if fault == "locked":
            with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                yield
            return
        process = psutil.Process(gateway.pid)
        limits = process.rlimit(resource.RLIMIT_FSIZE)
        process.rlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
        yield
        process.rlimit(resource.RLIMIT_FSIZE, limits)

    async def test_killed_while_rows_wait(self, tmp_path: Path) -> None:
        """Even what is only in memory and in the journal comes back, with its end."""
        gateway = GatewayProcess(tmp_path, self.config(tmp_path))
        async with gateway.running(), aiohttp.ClientSession() as session:
            client = Client(gateway, session)
            await client.chat("m")
            await until(lambda: len(ids(database(tmp_path))) == 1, "the row is written")
            with contextlib.closing(sqlite3.connect(database(tmp_path), isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                await client.chat("m")
                await self.health(client, lambda told: told["status"] == "degraded")
                gateway.signal(signal.SIGKILL)
                await gateway.wait()
            await gateway.start()
            await until(lambda: len(ids(database(tmp_path))) == 2, "it is taken over")
        assert ask(database(tmp_path), "SELECT DISTINCT state FROM requests") == [("ok",)]

    async def test_file_that_must_not_grow(self, tmp_path: Path) -> None:
        """As on a full disk: a limit of the process, which is lifted."""
        gateway = GatewayProcess(tmp_path, self.config(tmp_path))
        async with gateway.running(), aiohttp.ClientSession() as session:
            client = Client(gateway, session)
            await client.chat("m")
            limits = psutil.Process(gateway.pid).rlimit(resource.RLIMIT_FSIZE)
            psutil.Process(gateway.pid).rlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
            mend = partial(psutil.Process(gateway.pid).rlimit, resource.RLIMIT_FSIZE, limits)
            await self.serves_and_recovers(gateway, client, mend, "")
        assert len(ids(database(tmp_path))) == 21

    async def test_folder_that_is_none(self, tmp_path: Path) -> None:
        path = database(tmp_path)
        path.parent.parent.mkdir()
        path.parent.write_text("in the way")
        gateway = GatewayProcess(tmp_path, self.config(tmp_path))
        async with gateway.running(), aiohttp.ClientSession() as session:
            await self.serves_and_recovers(gateway, Client(gateway, session), path.parent.unlink, "File exists")
        assert len(ids(path)) == 20

    @pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
    async def test_folder_that_is_read_only(self, tmp_path: Path) -> None:
        folder = database(tmp_path).parent
        folder.mkdir(parents=True)
        folder.chmod(0o500)
        gateway = GatewayProcess(tmp_path, self.config(tmp_path))
        async with gateway.running(), aiohttp.ClientSession() as session:
            client = Client(gateway, session)
            await self.serves_and_recovers(gateway, client, lambda: folder.chmod(0o700), "Permission denied")

    async def test_corrupt_file_is_kept_and_a_new_one_begun(self, tmp_path: Path) -> None:
        path = database(tmp_path)
        path.parent.mkdir(parents=True)
        path.write_bytes(b"no database at all " * 1000)
        gateway = GatewayProcess(tmp_path, self.config(tmp_path))
        async with gateway.running(), aiohttp.ClientSession() as session:
            client = Client(gateway, session)
            await client.chat("m")
            await self.health(client, lambda told: told["status"] == "ok" and not told["requests"]["spooled_rows"])
            assert len(await client.rows()) == 1
        (kept,) = path.parent.glob("llamaproxy.db.corrupt-*")
        assert kept.read_bytes().startswith(b"no database")
        assert str(kept) in gateway.log
        assert len(ids(path)) == 1

    async def test_database_of_a_later_release_is_left_alone(self, tmp_path: Path) -> None:
        path = database(tmp_path)
        path.parent.mkdir(parents=True)
        ask(path, "PRAGMA user_version = 99")
        before = path.read_bytes()
        gateway = GatewayProcess(tmp_path, self.config(tmp_path))
        async with gateway.running(), aiohttp.ClientSession() as session:
            client = Client(gateway, session)
            assert (await client.chat("m"))[0] == 200
            await self.health(client, lambda told: told["status"] == "degraded")
            assert "version 99" in (await client.get("/api/health"))["requests"]["error"]
            assert len(await client.rows()) == 1
        assert path.read_bytes() == before
