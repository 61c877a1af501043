"""llamaproxy.backends.remote: a server elsewhere, as the scheduler hears of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from llamaproxy.backends import remote
from llamaproxy.backends.command import Address
from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.ports import free_port
from llamaproxy.backends.remote import Remote
from llamaproxy.core.events import BackendExited, BackendReady
from llamaproxy.errors import Unavailable
from llamaproxy.tasks import spawn
from tests.backends.processes import PATIENCE, until
from tests.backends.sites import Site

pytestmark = pytest.mark.timeout(30)

OFTEN = 0.02
NEVER = 1000.0


class Watch:
    """A remote that runs, and what it reported."""

    def __init__(self, url: str, health_path: str | None, interval: float, key: str | None) -> None:
        self.remote = Remote("qwen", 7, Address(url=url, key=key), health_path, interval)
        self.reports: asyncio.Queue[BackendReady | BackendExited] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.task = spawn(self.remote.run(self.reports.put_nowait), name="run")

    async def ready(self) -> None:
        assert await asyncio.wait_for(self.reports.get(), PATIENCE) == BackendReady("qwen", 7)

    async def exited(self) -> BackendExited:
        """The last report, after which there is nothing more to come."""
        event = await asyncio.wait_for(self.reports.get(), PATIENCE)
        assert isinstance(event, BackendExited)
        assert (event.model, event.spawn, self.remote.exited.is_set()) == ("qwen", 7, True)
        assert self.task
        await asyncio.wait_for(self.task, PATIENCE)
        assert self.reports.empty()
        return event

    async def end(self) -> None:
        await self.remote.kill()
        if self.task:
            await asyncio.wait_for(self.task, PATIENCE)


Begin = Callable[..., Watch]


@pytest.fixture
async def begin() -> AsyncIterator[Begin]:
    """Watches a URL; `begin=False` leaves the start to the test."""
    async with AsyncExitStack() as stack:

        def start(url: str, health_path: str | None = None, interval: float = NEVER, **options: Any) -> Watch:
            watch = Watch(url, health_path, interval, options.get("key"))
            stack.push_async_callback(watch.end)
            if options.get("begin", True):
                watch.begin()
            return watch

        yield start


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with Site().open() as opened:
        yield opened


async def head(watch: Watch, path: str) -> int:
    return await watch.remote.upstream.status(path)


async def within_read(answer: Any) -> bytes:
    return bytes(await asyncio.wait_for(answer.read(), PATIENCE))


def noted(watch: Watch, lines: int) -> bool:
    return len(watch.remote.log.tail(lines)) == lines


def asked(site: Site, times: int) -> bool:
    return site.asked["/health"] >= times


class TestFinding:
    async def test_one_good_look_is_enough(self, begin: Begin, site: Site) -> None:
        watch = begin(site.url)
        await watch.ready()
        assert site.asked == {"/health": 1}
        assert (watch.remote.pid, watch.remote.crashed) == (None, False)

    async def test_without_health_the_list_of_models_will_do_from_then_on(self, begin: Begin, site: Site) -> None:
        site.statuses = {"/v1/models": 200}
        watch = begin(site.url, interval=OFTEN)
        await watch.ready()
        await until(lambda: site.asked["/v1/models"] > 2)
        assert site.asked["/health"] == 1

    async def test_a_path_of_its_own_is_the_only_one(self, begin: Begin, site: Site) -> None:
        site.statuses = {"/v1/models": 200}
        assert "404" in (await begin(site.url, "/up").exited()).error.message
        site.statuses = {"/up": 204}
        await begin(site.url, "/up").ready()
        assert site.asked == {"/up": 2}

    async def test_everything_is_below_the_address_and_carries_the_key(self, begin: Begin) -> None:
        async with Site("/team/a").open() as site:
            await begin(site.url, key="k3y").ready()
            assert site.asked == {"/team/a/health": 1}
            (sent,) = site.headers
            assert (sent["Authorization"], sent["X-Api-Key"]) == ("Bearer k3y", "k3y")

    async def test_nobody_there_is_told_at_once(self, begin: Begin) -> None:
        watch = begin(f"http://127.0.0.1:{free_port()}")
        async with asyncio.timeout(remote.START_TIMEOUT / 2):
            exited = await watch.exited()
        assert (exited.error.code, exited.error.status, exited.retry) == ("model_unavailable", 503, False)
        assert exited.error.retry_after
        assert exited.error.message.startswith("qwen: its server is not ready: cannot connect: ")
        assert watch.remote.log.tail(1)[0].startswith("not found: cannot connect")

    @pytest.mark.parametrize("status", [401, 500, 302])
    async def test_any_other_answer_is_told_at_once(self, begin: Begin, site: Site, status: int) -> None:
        site.statuses["/health"] = status
        exited = await begin(site.url).exited()
        assert f"it answers {status} when asked for its health" in exited.error.message
        assert site.asked == {"/health": 1}

    async def test_one_that_is_loading_is_waited_for(
        self, begin: Begin, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote, "LOADING_INTERVAL", 0.001)
        site.statuses["/health"] = 503
        watch = begin(site.url)
        await until(lambda: site.asked["/health"] > 1)
        site.statuses["/health"] = 200
        await watch.ready()

    @pytest.mark.parametrize("silent", [True, False])
    async def test_but_not_for_long(
        self, begin: Begin, site: Site, monkeypatch: pytest.MonkeyPatch, silent: bool
    ) -> None:
        monkeypatch.setattr(remote, "START_TIMEOUT", 0.1)
        site.statuses["/health"] = 503
        if silent:
            site.gate.clear()
        assert "it was not ready within" in (await begin(site.url).exited()).error.message

    async def test_garbage_is_no_health(self, begin: Begin) -> None:
        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"SSH-2.0-\x1b[31mOpenSSH\r\n\r\n" + b"x" * 1000)
            writer.close()

        server = await asyncio.start_server(speak, "127.0.0.1", port := free_port())
        exited = await begin(f"http://127.0.0.1:{port}").exited()
        server.close()
        assert exited.error.message.startswith("qwen: its server is not ready: ")
        assert exited.error.message.isprintable()
        assert len(exited.error.message) < 400


class TestLosing:
    async def test_two_failed_looks_in_a_row(self, begin: Begin, site: Site) -> None:
        watch = begin(site.url, interval=OFTEN)
        await watch.ready()
        site.statuses["/health"] = 500
        before = site.asked["/health"]
        exited = await watch.exited()
        assert site.asked["/health"] - before == 2
        assert isinstance(exited.error, Unavailable)
        assert "its server is lost: it answers 500" in exited.error.message
        assert exited.retry

    async def test_one_failed_look_may_be_chance(self, begin: Begin, site: Site) -> None:
        watch = begin(site.url, interval=OFTEN)
        await watch.ready()
        for failures in (1, 2, 3):
            site.statuses["/health"] = 500
            await until(partial(noted, watch, failures))
            site.statuses["/health"] = 200
            await until(partial(asked, site, site.asked["/health"] + 1))
        assert watch.reports.empty()

    async def test_an_answer_that_has_begun_may_end(self, begin: Begin, site: Site) -> None:
        watch = begin(site.url, interval=OFTEN)
        await watch.ready()
        async with watch.remote.upstream.exchange("GET", "/stream", b"", None) as answer:
            site.statuses["/health"] = 500
            await watch.exited()
            site.finish.set()
            assert await within_read(answer) == b"firstlast"

    async def test_who_has_no_answer_yet_is_told(
        self, begin: Begin, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote, "CHECK_TIMEOUT", 0.05)
        watch = begin(site.url, interval=OFTEN)
        await watch.ready()
        site.gate.clear()
        asking = spawn(head(watch, "/v1/chat/completions"), name="ask")
        await watch.exited()
        await asyncio.wait({asking}, timeout=1)
        assert isinstance(asking.exception(), UpstreamLost)
        with pytest.raises(UpstreamLost):
            await head(watch, "/")

    async def test_a_broken_connection_has_it_looked_at_at_once_and_once(self, begin: Begin, site: Site) -> None:
        watch = begin(site.url)
        await watch.ready()
        watch.remote.suspect()
        await until(lambda: site.asked["/health"] == 2)
        assert watch.reports.empty(), "it is well"
        await site.go()
        watch.remote.suspect()
        assert "cannot connect" in (await watch.exited()).error.message

    async def test_one_that_hangs_is_lost_and_one_that_is_only_slow_is_not(
        self, begin: Begin, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remote, "CHECK_TIMEOUT", 0.1)
        watch = begin(site.url)
        await watch.ready()
        await watch.remote.kill_if_hung()
        assert watch.reports.empty()
        site.gate.clear()
        await watch.remote.kill_if_hung()
        assert "no answer within" in (await watch.exited()).error.message

    async def test_the_next_watch_finds_it_when_it_is_back(self, begin: Begin, site: Site) -> None:
        watch = begin(site.url, interval=OFTEN)
        await watch.ready()
        await site.go()
        await watch.exited()
        await site.come()
        await begin(site.url).ready()


class TestStopping:
    async def test_connections_are_closed(self, begin: Begin, site: Site) -> None:
        watch = begin(site.url)
        await watch.ready()
        site.gate.clear()
        asking = spawn(head(watch, "/x"), name="ask")
        await until(lambda: site.asked["/x"])
        await watch.remote.stop()
        exited = await watch.exited()
        assert (exited.error.message, exited.retry) == ("qwen: stopped", True)
        await asyncio.wait({asking}, timeout=1)
        assert isinstance(asking.exception(), UpstreamLost)

    async def test_while_it_is_being_looked_for(self, begin: Begin, site: Site) -> None:
        site.gate.clear()
        watch = begin(site.url)
        await until(lambda: site.asked["/health"])
        await watch.remote.stop()
        assert (await watch.exited()).error.message == "qwen: stopped"

    async def test_before_it_began(self, begin: Begin, site: Site) -> None:
        watch = begin(site.url, begin=False)
        await watch.remote.stop()
        watch.begin()
        assert (await watch.exited()).error.message == "qwen: stopped"
        assert not site.asked

    async def test_a_failure_of_our_own_is_an_end_too(
        self, begin: Begin, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        watch = begin(site.url, begin=False)

        async def fail(path: str) -> int:
            raise LookupError("a bug")

        monkeypatch.setattr(watch.remote.upstream, "status", fail)
        watch.begin()
        assert (await watch.exited()).error.code == "model_start_failed"
        assert "a bug" in caplog.text
