"""llamaproxy.backends.spawn: one life of one backend, told as the scheduler hears of it."""

import asyncio
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from llamaproxy.backends.command import Address, Command
from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.orphans import STATE_FILE, RunDirectory
from llamaproxy.backends.ports import free_port
from llamaproxy.backends.process import EngineProcess
from llamaproxy.backends.slot_files import SlotFiles
from llamaproxy.backends.slots import Carry
from llamaproxy.backends.spawn import Spawn
from llamaproxy.backends.upstream import Upstream
from llamaproxy.config import EngineConfig, KvConfig
from llamaproxy.core.events import BackendExited, BackendReady, StopReason
from llamaproxy.errors import Exhausted, GatewayError, LoadTimeout, ModelOutOfMemory, ModelStartFailed, Unavailable
from llamaproxy.tasks import spawn
from tests.backends.engines import fake_command, script
from tests.backends.processes import PATIENCE, alive, known, until, within

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(60)]

NUMBER = 7


class Life:
    """A spawn that runs, and what it reported."""

    def __init__(self, spawned: Spawn) -> None:
        self.spawn = spawned
        self.reports: asyncio.Queue[BackendReady | BackendExited] = asyncio.Queue()
        self.task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        self.task = spawn(self.spawn.run(self.reports.put_nowait), name="run")

    @property
    def pid(self) -> int:
        assert self.spawn.pid
        return self.spawn.pid

    async def ready(self) -> None:
        event = await asyncio.wait_for(self.reports.get(), PATIENCE)
        assert event == BackendReady("qwen", NUMBER)

    async def exited(self) -> BackendExited:
        """The last report, after which there is nothing more to come and nothing more to do."""
        event = await asyncio.wait_for(self.reports.get(), PATIENCE)
        assert isinstance(event, BackendExited)
        assert (event.model, event.spawn) == ("qwen", NUMBER)
        assert self.spawn.exited.is_set()
        assert self.spawn.pid is None
        assert self.task
        await asyncio.wait_for(self.task, PATIENCE)
        assert self.reports.empty()
        return event

    async def end(self) -> None:
        if self.task and not self.task.done():
            await self.spawn.kill()
            await asyncio.wait_for(self.task, PATIENCE)
        await self.spawn.upstream.close()


@pytest.fixture
def address(run_directory: RunDirectory) -> Address:
    return Address(socket=run_directory.socket("qwen", NUMBER))


@pytest.fixture
def state(short_path: Path) -> Path:
    (short_path / "state").mkdir()
    return short_path / "state"


@asynccontextmanager
async def life_of(
    command: Command,
    address: Address,
    run: RunDirectory,
    *,
    begin: bool = True,
    carry: Carry | None = None,
    **engine: Any,
) -> AsyncIterator[Life]:
    life = Life(Spawn("qwen", NUMBER, address, command, EngineConfig(**engine), run, carry=carry))
    if begin:
        life.begin()
    try:
        yield life
    finally:
        await life.end()


class World:
    """Everything a spawn needs, at hand."""

    def __init__(self, address: Address, state: Path, run: RunDirectory) -> None:
        self.address, self.state, self.run = address, state, run

    def fake(self, environment: Mapping[str, str] | None = None, **options: Any) -> Any:
        return life_of(fake_command(self.address, self.state, "qwen", environment), self.address, self.run, **options)

    def script(self, program: str, **options: Any) -> Any:
        return life_of(script(program, self.address), self.address, self.run, **options)

    def command(self, *argv: str, **options: Any) -> Any:
        return life_of(Command(argv, {"PATH": os.environ["PATH"]}), self.address, self.run, **options)

    def journal(self) -> list[list[str]]:
        return [line.split() for line in (self.state / "journal").read_text().splitlines()]

    def asked(self, path: str, times: int = 1) -> bool:
        """Whether the engine has got so many requests for this path, over all its lives."""
        return sum(words[0] == "request" and words[3] == path for words in self.journal()) >= times

    def left_by_itself(self) -> bool:
        """The engine came to its own end: what it writes last cannot be written by one that was killed."""
        return self.journal()[-1][0] == "exit"


@pytest.fixture
def world(address: Address, state: Path, run_directory: RunDirectory) -> World:
    return World(address, state, run_directory)


async def ask(upstream: Upstream, max_tokens: int = 1) -> bytes:
    body = json.dumps({"prompt": "hi", "max_tokens": max_tokens, "stream": True}).encode()
    fields = b"Content-Type: application/json\r\n"
    async with upstream.exchange("POST", "/completion", fields, body) as response:
        assert response.status == 200
        return await response.read()


class TestLife:
    async def test_from_start_to_stop(self, world: World) -> None:
        async with world.fake() as life:
            assert life.spawn.pid is None
            await life.ready()
            assert alive(life.pid)
            assert f"qwen:{life.pid}".encode() in await ask(life.spawn.upstream)
            await life.spawn.stop()
            end = await life.exited()
        assert type(end.error) is Unavailable
        assert (end.error.message, end.retry) == ("qwen: stopped", True)
        assert world.left_by_itself()

    async def test_it_is_ready_when_the_engine_says_so_and_not_before(self, world: World) -> None:
        began = time.monotonic()
        async with world.fake({"FAKE_LOAD_SECONDS": "0.5"}) as life:
            await life.ready()
            assert time.monotonic() - began >= 0.5
            assert any("model loaded" in line for line in life.spawn.log.tail(5))

    async def test_it_is_written_down_while_it_lives_and_its_socket_is_removed(
        self, world: World, address: Address
    ) -> None:
        def written() -> list[int]:
            return [child["pid"] for child in json.loads((world.run.path / STATE_FILE).read_bytes())["children"]]

        assert address.socket
        async with world.fake() as life:
            await life.ready()
            assert written() == [life.pid]
            assert address.socket.exists()
            await life.spawn.stop()
            await life.exited()
        assert written() == []
        assert not address.socket.exists()

    async def test_over_tcp_the_key_is_its_own_and_no_argument(self, world: World, state: Path) -> None:
        address = Address(port=free_port(), key="k3y-of-this-spawn")
        stranger = Upstream(Address(port=address.port, key="another"))
        async with life_of(fake_command(address, state), address, world.run) as life:
            await life.ready()
            assert b"qwen" in await ask(life.spawn.upstream)
            async with stranger.exchange("GET", "/props", b"", None) as response:
                assert response.status == 401
            assert not any("k3y" in argument for argument in psutil.Process(life.pid).cmdline())
        await stranger.close()


class TestDeathBeforeReady:
    async def test_an_engine_that_gives_up_is_no_use_to_those_who_wait(self, world: World) -> None:
        async with world.fake({"FAKE_EXIT_AT_START": "3"}) as life:
            end = await life.exited()
        assert isinstance(end.error, ModelStartFailed)
        assert "the engine exited with code 3 before it was ready: " in end.error.message
        assert "exiting due to FAKE_EXIT_AT_START" in end.error.message
        assert "exiting due to FAKE_EXIT_AT_START" in str(end.error.detail)
        assert end.error.retry_after
        assert not end.retry

    async def test_no_memory_has_a_name_of_its_own(self, world: World) -> None:
        async with world.fake({"FAKE_OOM": "1"}) as life:
            end = await life.exited()
        assert isinstance(end.error, ModelOutOfMemory)
        assert "not enough memory" in end.error.message
        assert "failed to allocate buffer" in end.error.message, "the cause, and not what followed from it"
        assert "exiting due to" in str(end.error.detail)
        assert not end.retry

    async def test_a_taken_address_is_worth_another_try(self, world: World) -> None:
        async with world.fake({"FAKE_SOCKET_TAKEN": "1"}) as life:
            end = await life.exited()
        assert isinstance(end.error, ModelStartFailed)
        assert end.retry

    async def test_so_is_a_death_by_a_signal_from_outside(self, world: World) -> None:
        async with world.fake({"FAKE_KILL_DURING_LOAD_TIMES": "1"}) as life:
            end = await life.exited()
        assert isinstance(end.error, ModelStartFailed)
        assert "was killed by SIGKILL before it was ready" in end.error.message
        assert end.retry

    async def test_a_signal_without_a_name_has_its_number(self, world: World) -> None:
        async with world.command("sh", "-c", "kill -40 $$") as life:
            assert "was killed by signal 40" in (await life.exited()).error.message

    async def test_the_end_is_noticed_while_a_probe_is_under_way(self, world: World) -> None:
        program = """if True:
            import os, socket, sys
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(sys.argv[1])
            listener.listen()
            listener.accept()
            os._exit(2)
        """
        async with world.script(program) as life:
            assert "exited with code 2" in (await life.exited()).error.message


class TestCannotStart:
    @staticmethod
    def assert_told(end: BackendExited, text: str) -> None:
        assert isinstance(end.error, ModelStartFailed)
        assert text in end.error.message
        assert not end.retry

    async def test_no_such_program(self, world: World) -> None:
        async with world.command("/no/such/llama-server") as life:
            self.assert_told(
                await life.exited(), "qwen: cannot execute /no/such/llama-server: No such file or directory"
            )

    async def test_arguments_that_no_process_can_have(self, world: World) -> None:
        async with world.command("sleep", "6\x000") as life:
            self.assert_told(await life.exited(), "null byte")

    async def test_no_more_open_files(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async def connect_read_pipe(*_: object) -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(asyncio.get_running_loop(), "connect_read_pipe", connect_read_pipe)
        async with world.command("sleep", "60") as life:
            end = await life.exited()
        assert isinstance(end.error, Exhausted)
        assert end.error.message == "qwen: the gateway cannot start a process: Too many open files"
        assert end.blameless, "it is not the model's fault"

    async def test_a_process_that_cannot_be_written_down_is_not_kept(self, world: World) -> None:
        shutil.rmtree(world.run.path)
        world.run.path.touch()
        async with world.fake() as life:
            self.assert_told(await life.exited(), "File exists")


class TestDeathWhenReady:
    @pytest.mark.parametrize("name", ["KILL", "SEGV", "ABRT"])
    async def test_a_crash_is_told_with_its_signal_and_the_next_spawn_may_help(self, world: World, name: str) -> None:
        async with world.fake({"FAKE_CRASH_IDLE_SECONDS": "0.05", "FAKE_DIE_SIGNAL": name}) as life:
            await life.ready()
            end = await life.exited()
        assert type(end.error) is Unavailable
        assert end.error.message == f"qwen: the engine was killed by SIG{name}"
        assert "model loaded" in str(end.error.detail)
        assert end.retry

    async def test_those_who_hold_a_lease_can_wait_for_the_news(self, world: World) -> None:
        async with world.fake({"FAKE_TOKEN_SECONDS": "60"}) as life:
            await life.ready()
            asking = spawn(ask(life.spawn.upstream, 2), name="ask")
            await until(lambda: world.asked("/completion"))
            os.kill(life.pid, signal.SIGKILL)
            await within(PATIENCE, life.spawn.exited.wait())
            await asyncio.wait({asking}, timeout=1)
            assert asking.exception()
            await life.exited()


SILENT = """if True:
    import socket, sys, time
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    time.sleep(60)
"""
SLOW = """if True:
    import socket, sys, time
    for _ in range(20):
        print(".", end="", flush=True)
        time.sleep(0.05)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen()
    while True:
        connection, _ = listener.accept()
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
        connection.close()
"""


class TestStartTimeout:
    async def test_an_engine_that_loads_for_ever_is_ended(self, world: World) -> None:
        async with world.fake({"FAKE_HEALTH_ALWAYS_503": "1"}, start_timeout=0.5) as life:
            await until(lambda: life.spawn.pid)
            pid = life.pid
            end = await life.exited()
        assert isinstance(end.error, LoadTimeout)
        assert "the engine was not ready after " in end.error.message
        assert "loading model" in str(end.error.detail)
        assert not end.retry
        assert not known(pid)

    async def test_so_is_one_that_takes_connections_and_says_nothing(self, world: World) -> None:
        async with world.script(SILENT, start_timeout=0.3) as life:
            assert isinstance((await life.exited()).error, LoadTimeout)

    async def test_so_is_one_that_never_listens(self, world: World) -> None:
        async with world.command("sleep", "60", start_timeout=0.3) as life:
            assert isinstance((await life.exited()).error, LoadTimeout)

    async def test_what_it_prints_is_progress_even_without_a_newline(self, world: World) -> None:
        async with world.script(SLOW, start_timeout=0.5) as life:
            await life.ready()


class TestStop:
    async def test_before_it_began_nothing_is_started(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        started: list[object] = []
        monkeypatch.setattr(EngineProcess, "start", started.append)
        for how in (Spawn.stop, Spawn.kill):
            async with world.fake(begin=False) as life:
                await how(life.spawn)
                life.begin()
                end = await life.exited()
                assert (end.error.message, end.retry) == ("qwen: stopped", True)
        assert started == []

    async def test_while_it_loads(self, world: World) -> None:
        async with world.fake({"FAKE_LOAD_SECONDS": "60"}) as life:
            await until(lambda: life.spawn.log.blocks)
            await within(PATIENCE, life.spawn.stop())
            end = await life.exited()
            assert (end.error.message, end.retry) == ("qwen: stopped", True)

    async def test_its_clients_go_first_because_it_waits_for_them(self, world: World) -> None:
        async with world.fake({"FAKE_TOKEN_SECONDS": "60"}) as life:
            await life.ready()
            asking = spawn(ask(life.spawn.upstream, 2), name="ask")
            await until(lambda: world.asked("/completion"))
            await within(5, life.spawn.stop())
            await asyncio.wait({asking}, timeout=1)
            assert asking.exception()
            with pytest.raises(UpstreamLost):
                await ask(life.spawn.upstream)
            await life.exited()
        assert world.left_by_itself()

    async def test_one_that_does_not_listen_is_made_to(self, world: World) -> None:
        async with world.fake({"FAKE_IGNORE_SIGTERM": "1"}, stop_timeout=0.2) as life:
            await life.ready()
            assert await within(PATIENCE, life.spawn.stop()) >= 0.2
            assert (await life.exited()).error.message == "qwen: stopped"

    async def test_kill_does_not_ask(self, world: World) -> None:
        async with world.fake({"FAKE_IGNORE_SIGTERM": "1", "FAKE_GRANDCHILD": "1"}, stop_timeout=60) as life:
            await life.ready()
            await within(PATIENCE, life.spawn.kill())
            await life.exited()

    async def test_after_its_end_nothing_happens(self, world: World) -> None:
        async with world.fake({"FAKE_EXIT_AT_START": "1"}) as life:
            await life.exited()
            await within(1, life.spawn.stop())
            await within(1, life.spawn.kill())
            assert life.reports.empty()

    async def test_twice_and_by_both_ways_at_once_is_one_end(self, world: World) -> None:
        async with world.fake() as life:
            await life.ready()
            await within(PATIENCE, asyncio.gather(life.spawn.stop(), life.spawn.stop(), life.spawn.kill()))
            await life.exited()


class TestSlots:
    """What a model's slots hold, from one life to the next."""

    @pytest.fixture
    def carry(self, short_path: Path) -> Carry:
        return Carry("qwen", f"{'a' * 16}-{'0' * 16}", SlotFiles(short_path / "kv", 10**6), KvConfig())

    def life(self, world: World, carry: Carry, environment: Mapping[str, str] | None = None, **options: Any) -> Any:
        args = ("--slot-save-path", str(carry.directory))
        command = fake_command(world.address, world.state, "qwen", environment, *args)
        return life_of(command, world.address, world.run, carry=carry, **options)

    async def used(self, world: World, carry: Carry, reason: StopReason = StopReason.EVICTED) -> None:
        """One life with a conversation in it."""
        async with self.life(world, carry) as life:
            await life.ready()
            await ask(life.spawn.upstream)
            await life.spawn.stop(reason)
            await life.exited()

    @pytest.mark.parametrize("reason", sorted(set(StopReason) - {StopReason.UNHEALTHY}))
    async def test_an_ordinary_stop_saves_them(self, world: World, carry: Carry, reason: StopReason) -> None:
        await self.used(world, carry, reason)
        assert carry.saved_tokens > 0
        assert world.left_by_itself()

    async def test_the_next_life_has_them_before_it_is_ready(self, world: World, carry: Carry) -> None:
        await self.used(world, carry)
        async with self.life(world, carry) as life:
            await life.ready()
            assert carry.restored_tokens == carry.saved_tokens > 0

    async def test_an_engine_that_is_ill_is_not_asked(self, world: World, carry: Carry) -> None:
        await self.used(world, carry, StopReason.UNHEALTHY)
        assert not world.asked("/slots")

    async def test_nor_one_that_is_not_ready(self, world: World, carry: Carry) -> None:
        async with self.life(world, carry, {"FAKE_LOAD_SECONDS": "60"}) as life:
            await until(lambda: life.spawn.log.blocks)
            await life.spawn.stop()
            await life.exited()
        assert not world.asked("/slots")

    async def test_nor_one_that_is_killed(self, world: World, carry: Carry) -> None:
        async with self.life(world, carry) as life:
            await life.ready()
            await life.spawn.kill()
            await life.exited()
        assert not world.asked("/slots")

    async def test_a_second_stop_saves_nothing_more(self, world: World, carry: Carry) -> None:
        async with self.life(world, carry) as life:
            await life.ready()
            await asyncio.gather(life.spawn.stop(), life.spawn.stop())
            await life.exited()
        assert not world.asked("/slots", times=2)

    @pytest.mark.parametrize("how", [Spawn.stop, Spawn.kill], ids=["stop", "kill"])
    async def test_a_restore_that_is_cut_short_costs_no_file(
        self, world: World, carry: Carry, how: Callable[[Spawn], Awaitable[None]]
    ) -> None:
        await self.used(world, carry)
        async with self.life(world, carry, {"FAKE_SLOT_SECONDS": "60"}) as life:
            await until(lambda: world.asked("/slots/0", times=2))
            await within(PATIENCE, how(life.spawn))
        assert len(list(carry.directory.glob("*.kv"))) == 1
        assert carry.off is None

    async def test_an_engine_that_dies_of_a_restore_is_not_given_it_again(self, world: World, carry: Carry) -> None:
        await self.used(world, carry)
        async with self.life(world, carry, {"FAKE_SLOT_SECONDS": "60"}) as life:
            await until(lambda: world.asked("/slots/0", times=2))
            os.kill(life.pid, signal.SIGKILL)
            await asyncio.wait_for(life.spawn.exited.wait(), PATIENCE)
        await until(lambda: not list(carry.directory.glob("*.kv")))


class TestStopInTheMomentOfTheStart:
    """The process is there, but nobody knows of it yet: the loop is still connecting its output."""

    @pytest.fixture
    async def gate(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[asyncio.Event]:
        loop = asyncio.get_running_loop()
        connect, gate = loop.connect_read_pipe, asyncio.Event()

        async def connect_read_pipe(*arguments: Any) -> Any:
            connected = await connect(*arguments)
            await gate.wait()
            return connected

        monkeypatch.setattr(loop, "connect_read_pipe", connect_read_pipe)
        yield gate

    async def test_a_stop_is_not_forgotten(self, world: World, gate: asyncio.Event) -> None:
        async with world.fake() as life:
            await until(lambda: life.spawn.log.blocks)
            await within(1, life.spawn.stop())
            gate.set()
            end = await life.exited()
            assert (end.error.message, end.retry) == ("qwen: stopped", True)

    async def test_a_kill_does_not_become_a_stop(self, world: World, gate: asyncio.Event) -> None:
        deaf = "trap '' TERM; echo up; while :; do sleep 0.01; done"
        async with world.command("sh", "-c", deaf, stop_timeout=60) as life:
            await until(lambda: life.spawn.log.blocks)
            await within(1, life.spawn.kill())
            gate.set()
            await life.exited()

    async def test_one_stop_is_one_signal_because_a_second_means_at_once(
        self, world: World, gate: asyncio.Event
    ) -> None:
        program = "trap 'echo asked; sleep 0.2; exit 0' TERM; echo up; while :; do sleep 0.01; done"
        async with world.command("sh", "-c", program) as life:
            await until(lambda: life.spawn.log.blocks)
            await life.spawn.stop()
            gate.set()
            await life.exited()
            assert life.spawn.log.tail(9).count("asked") == 1


class TestTheEndIsAlwaysTold:
    async def test_where_the_directory_has_gone(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        async with world.fake() as life:
            await life.ready()
            shutil.rmtree(world.run.path)
            world.run.path.touch()
            os.kill(life.pid, signal.SIGKILL)
            end = await life.exited()
        assert "SIGKILL" in end.error.message
        assert "left something behind" in caplog.text

    async def test_where_connections_cannot_be_closed(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async with world.fake() as life:
            await life.ready()
            pid = life.pid

            async def close(_: Upstream) -> None:
                raise RuntimeError

            with monkeypatch.context() as patch:
                patch.setattr(Upstream, "close", close)
                os.kill(pid, signal.SIGKILL)
                await life.exited()
        assert not known(pid)

    async def test_where_the_probe_breaks(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async def health(_: Upstream) -> int:
            raise LookupError("a bug")

        monkeypatch.setattr(Upstream, "health", health)
        async with world.fake() as life:
            end = await life.exited()
        assert isinstance(end.error, ModelStartFailed)
        assert isinstance(end.error, GatewayError)
