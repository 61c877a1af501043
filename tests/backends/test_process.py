"""llamaproxy.backends.process: real processes, from the first to the last moment of their lives."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from llamaproxy.backends.command import Command
from llamaproxy.backends.output import LINE_BYTES, OutputLog
from llamaproxy.backends.process import EngineProcess
from llamaproxy.tasks import spawn
from tests.backends.processes import PATIENCE, alive, known, until, within

pytestmark = pytest.mark.usefixtures("nothing_left")

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not do this elsewhere")

Start = Callable[..., Any]


class Started(EngineProcess):
    """An EngineProcess together with its log."""

    def __init__(self, *argv: str, **environment: str) -> None:
        self.log = OutputLog()
        super().__init__(Command(argv, {"PATH": os.environ["PATH"], **environment}), self.log)

    @property
    def lines(self) -> list[str]:
        return self.log.tail(10_000)

    async def printed(self, count: int = 1) -> list[str]:
        await until(lambda: len(self.lines) >= count)
        return self.lines


async def shell(script: str, **environment: str) -> Started:
    process = Started("sh", "-c", script, **environment)
    await process.start()
    return process


async def python(program: str) -> Started:
    process = Started(sys.executable, "-S", "-c", program)
    await process.start()
    return process


async def descriptors_after_a_life() -> int:
    """How many files are open; an event loop opens what it keeps with the first process."""
    await (await shell("exit 0")).exited
    return psutil.Process().num_fds()


def wait_unread(pid: int) -> None:
    """Let a process come to its end while nobody reads what it prints."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


class TestExit:
    @pytest.mark.parametrize("code", [0, 1, 7, 255])
    async def test_the_code_is_told(self, code: int) -> None:
        process = await shell(f"exit {code}")
        assert await asyncio.wait_for(process.exited, PATIENCE) == code

    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM])
    async def test_a_death_by_signal_is_its_negative_number(self, number: int) -> None:
        process = await shell(f"ulimit -c 0; kill -{number} $$")
        assert await asyncio.wait_for(process.exited, PATIENCE) == -number

    async def test_it_is_noticed_at_once_and_not_at_the_next_look(self) -> None:
        delays = []
        for _ in range(5):
            process = await python("import os, time; os.write(1, b'%r\\n' % time.monotonic()); os._exit(0)")
            await asyncio.wait_for(process.exited, PATIENCE)
            delays.append(time.monotonic() - float(process.lines[0]))
        assert min(delays) < 0.02

    async def test_by_then_the_process_is_reaped(self) -> None:
        process = await shell("exit 3")
        await asyncio.wait_for(process.exited, PATIENCE)
        assert not known(process.pid)

    @linux_only
    async def test_by_then_everything_it_printed_is_here_however_much_of_that_was_still_in_the_pipe(self) -> None:
        process = await python(
            "import fcntl, os; fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)\n"
            "os.write(1, b'line\\n' * 200_000 + b'last words')"
        )
        wait_unread(process.pid)
        await asyncio.wait_for(process.exited, PATIENCE)
        assert process.lines[-2:] == ["line", "last words"]

    async def test_many_may_wait_for_it_and_one_who_gives_up_disturbs_nobody(self) -> None:
        process = await shell("read line; exit 4")
        waits = [spawn(process.stop(PATIENCE), name="stop") for _ in range(3)]
        waits[0].cancel()
        await asyncio.wait(waits, timeout=PATIENCE)
        assert await process.exited == 4 or process.exited.result() == -signal.SIGTERM


class TestStart:
    async def test_arguments_are_a_list_and_no_shell_sees_them(self) -> None:
        argument = "a b; echo pwned $HOME `id` * ~ \\ \" '"
        process = Started("printf", "%s\n", argument, "", "second")
        await process.start()
        await process.exited
        assert process.lines == [argument, "", "second"]

    async def test_the_environment_is_what_was_given_and_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMA_ARG_PORT", "1")
        process = Started("env", LLAMA_API_KEY="key of this spawn")
        await process.start()
        await process.exited
        assert sorted(process.lines) == ["LLAMA_API_KEY=key of this spawn", f"PATH={os.environ['PATH']}"]

    async def test_both_its_outputs_are_one(self) -> None:
        process = await shell("echo out; echo err >&2; echo out again")
        assert await asyncio.wait_for(process.exited, PATIENCE) == 0
        assert process.lines == ["out", "err", "out again"]

    async def test_there_is_nothing_to_read_for_it(self) -> None:
        ours, (reader, writer) = os.dup(0), os.pipe()
        os.dup2(reader, 0)
        try:
            process = await shell("cat; echo end")
            await within(PATIENCE, process.exited)
        finally:
            os.dup2(ours, 0)
            for descriptor in (ours, reader, writer):
                os.close(descriptor)
        assert process.lines == ["end"]

    async def test_it_is_a_session_and_a_group_of_its_own(self) -> None:
        process = await shell("echo up; sleep 60")
        await process.printed()
        assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
        await process.kill()

    async def test_it_inherits_no_file_of_ours(self, tmp_path: Path) -> None:
        with (tmp_path / "secret").open("w") as secret:
            os.set_inheritable(secret.fileno(), True)
            process = await python("import os; print(sorted(os.listdir('/dev/fd'))[:3], len(os.listdir('/dev/fd')))")
            await process.exited
        # The fourth is the listing's own.
        assert process.lines == ["['0', '1', '2'] 4"]

    @pytest.mark.parametrize(
        ("program", "mode", "expected"),
        [(None, 0, FileNotFoundError), (b"#!/bin/sh\n", 0o644, PermissionError), (b"\x7fELF", 0o755, OSError)],
    )
    async def test_what_cannot_be_executed_is_an_oserror(
        self, tmp_path: Path, program: bytes | None, mode: int, expected: type[OSError]
    ) -> None:
        path = tmp_path / "program"
        if program:
            path.write_bytes(program)
            path.chmod(mode)
        descriptors = psutil.Process().num_fds()
        with pytest.raises(expected):
            await Started(str(path)).start()
        assert psutil.Process().num_fds() == descriptors


class TestStartThatFailsHalfWay:
    """The process is there already: it must not stay without a reader and without anybody to end it."""

    @staticmethod
    def assert_nothing_is_left(process: EngineProcess, descriptors: int) -> None:
        assert not known(process.pid)
        assert psutil.Process().num_fds() == descriptors

    async def test_no_pipe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def connect_read_pipe(*_: object) -> None:
            raise OSError(24, "Too many open files")

        loop = asyncio.get_running_loop()
        descriptors = await descriptors_after_a_life()
        monkeypatch.setattr(loop, "connect_read_pipe", connect_read_pipe)
        process = Started("sleep", "60")
        with pytest.raises(OSError, match="Too many open files"):
            await process.start()
        self.assert_nothing_is_left(process, descriptors)

    async def test_no_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        descriptors = await descriptors_after_a_life()
        monkeypatch.setattr(threading.Thread, "start", start)
        process = Started("sleep", "60")
        with pytest.raises(RuntimeError, match="new thread"):
            await process.start()
        await asyncio.sleep(0)
        self.assert_nothing_is_left(process, descriptors)

    async def test_cancelled(self) -> None:
        descriptors = await descriptors_after_a_life()
        process = Started("sh", "-c", "sleep 60 & sleep 60")
        task = spawn(process.start(), name="start")
        await asyncio.sleep(0)
        assert known(process.pid)
        task.cancel()
        await asyncio.wait({task}, timeout=PATIENCE)
        assert task.cancelled()
        await asyncio.sleep(0)
        self.assert_nothing_is_left(process, descriptors)


class TestStop:
    async def test_it_is_asked_first(self) -> None:
        process = await shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done")
        await process.printed()
        await within(PATIENCE, process.stop(PATIENCE))
        assert process.exited.result() == 3
        assert process.lines[-1] == "bye"

    async def test_and_made_to_when_it_does_not_listen(self) -> None:
        process = await shell("trap '' TERM; echo up; while :; do sleep 0.01; done")
        await process.printed()
        assert await within(PATIENCE, process.stop(0.2)) >= 0.2
        assert process.exited.result() == -signal.SIGKILL

    async def test_even_one_that_is_suspended(self) -> None:
        process = await shell("kill -STOP $$")
        await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        await within(PATIENCE, process.stop(0.1))
        assert process.exited.result() == -signal.SIGKILL

    async def test_kill_asks_nobody(self) -> None:
        process = await shell("trap 'echo bye' TERM; echo up; while :; do sleep 0.01; done")
        await process.printed()
        await within(PATIENCE, process.kill())
        assert (process.exited.result(), process.lines) == (-signal.SIGKILL, ["up"])

    async def test_a_kill_while_a_stop_is_waiting_ends_both(self) -> None:
        process = await shell("trap '' TERM; echo up; while :; do sleep 0.01; done")
        await process.printed()
        stopping = spawn(process.stop(60), name="stop")
        await asyncio.sleep(0)
        await within(PATIENCE, process.kill())
        await within(PATIENCE, stopping)
        assert process.exited.result() == -signal.SIGKILL

    async def test_a_dead_one_is_left_alone_for_its_number_may_be_another_process_by_now(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        process = await shell("exit 5")
        await asyncio.wait_for(process.exited, PATIENCE)
        signals: list[tuple[int, int]] = []
        monkeypatch.setattr(os, "killpg", lambda *signalled: signals.append(signalled))
        await within(PATIENCE, process.stop(PATIENCE))
        await within(PATIENCE, process.kill())
        assert process.exited.result() == 5
        assert signals == []

    @linux_only
    async def test_no_signal_is_sent_after_the_process_is_reaped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        states = []
        send = os.killpg

        def killpg(pid: int, number: int) -> None:
            states.append(psutil.Process(pid).status())
            send(pid, number)

        monkeypatch.setattr(os, "killpg", killpg)
        process = await shell("exit 0")
        await asyncio.wait_for(process.exited, PATIENCE)
        assert states == [psutil.STATUS_ZOMBIE]


class TestGroup:
    async def test_what_it_started_ends_with_it_and_its_pipes_delay_nothing(self) -> None:
        process = await shell("sleep 60 & echo $!; exit 6")
        assert await within(0.4, process.exited) < 0.4
        assert process.exited.result() == 6
        grandchild = int(process.lines[0])
        await until(lambda: not alive(grandchild), 1)

    async def test_also_when_it_is_stopped_and_its_child_ignores_that(self) -> None:
        process = await shell("sh -c 'trap \"\" TERM; echo $$; while :; do sleep 0.01; done' & wait")
        grandchild = int((await process.printed())[0])
        await within(PATIENCE, process.stop(PATIENCE))
        assert process.exited.result() == -signal.SIGTERM
        await until(lambda: not alive(grandchild), 1)

    async def test_one_that_left_the_group_with_the_pipe_does_not_keep_the_exit_secret(self) -> None:
        descriptors = await descriptors_after_a_life()
        process = await python(
            "import os, subprocess\n"
            "print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)\n"
            "os._exit(8)"
        )
        try:
            await within(5, process.exited)
            assert process.exited.result() == 8
            assert alive(int(process.lines[0]))
            assert psutil.Process().num_fds() == descriptors
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process.lines[0]), signal.SIGKILL)

    async def test_closing_its_output_is_not_its_end(self) -> None:
        process = await shell("echo daemon; trap 'exit 9' TERM; exec >&- 2>&-; while :; do sleep 0.01; done")
        await within(PATIENCE, process._pipe_closed.wait())
        assert alive(process.pid)
        assert not process.exited.done()
        await within(PATIENCE, process.stop(PATIENCE))
        assert process.exited.result() == 9
        assert process.lines == ["daemon"]


class TestOutput:
    async def test_no_line_is_too_long_for_the_reader(self) -> None:
        process = await python(
            "import os\nfor _ in range(320): os.write(2, b'x' * 65536)\nos.write(2, b'\\nalive\\n'); os._exit(0)"
        )
        await within(PATIENCE, process.exited)
        assert process.lines == ["x" * LINE_BYTES, "alive"]


class TestLeaks:
    async def test_twenty_lives_leave_no_file_thread_or_zombie(self) -> None:
        async def live(number: int) -> None:
            process = await shell("echo up; exit 0" if number % 2 else "echo up; exec sleep 60")
            await process.printed()
            await within(PATIENCE, process.stop(PATIENCE))

        await live(0)
        descriptors = psutil.Process().num_fds()
        for number in range(20):
            await live(number)
        assert psutil.Process().num_fds() == descriptors
        assert psutil.Process().children() == []
        for thread in threading.enumerate():
            if thread.name.startswith("reap-"):
                thread.join(1)
                assert not thread.is_alive()


GATEWAY = """
import asyncio, os, sys, uvloop
from llamaproxy.backends.command import Command
from llamaproxy.backends.output import OutputLog
from llamaproxy.backends.process import EngineProcess

async def main():
    process = EngineProcess(Command(("sleep", "60"), dict(os.environ)), OutputLog())
    await process.start()
    print(process.pid, flush=True)
    await process.exited

{run}(main())
"""


@linux_only
class TestDeathOfTheGateway:
    @pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
    def test_the_engine_dies_with_it(self, run: str) -> None:
        argv = (sys.executable, "-c", GATEWAY.format(run=run))
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as gateway:
            assert gateway.stdout
            engine = int(gateway.stdout.readline())
            assert alive(engine)
            gateway.kill()
            died = time.monotonic()
        while alive(engine):
            assert time.monotonic() - died < 1
            time.sleep(0.005)

    async def test_also_when_it_died_before_the_engine_could_ask_for_that(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "getpid", lambda: 1)
        process = await shell("echo running")
        await within(PATIENCE, process.exited)
        assert (process.exited.result(), process.lines) == (1, [])
