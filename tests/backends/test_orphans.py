"""llamaproxy.backends.orphans: whom the next gateway may end, and whom it must not."""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from llamaproxy.backends import orphans
from llamaproxy.backends.orphans import STATE_FILE, Identity, RunDirectory, identify, reap
from tests.backends.processes import alive, wait_executed

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(30)]

Engine = subprocess.Popen[bytes]
Spawned = Callable[..., Engine]


@pytest.fixture
def engine() -> Iterator[Spawned]:
    """Starts what stands for an engine: a process in a group of its own."""
    started: list[Engine] = []

    def start(*argv: str) -> Engine:
        started.append(subprocess.Popen(argv or ("sleep", "60"), start_new_session=True, stdout=subprocess.PIPE))
        wait_executed(started[-1].pid)
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)


@pytest.fixture
def base(short_path: Path) -> Path:
    return short_path / "base"


def argv_of(process: Engine) -> Sequence[str]:
    assert isinstance(process.args, tuple)
    return process.args


def as_written(process: Engine) -> dict[str, Any]:
    identity = identify(process.pid, argv_of(process))
    return {"pid": identity.pid, "started": identity.started, "arguments": list(identity.arguments)}


def dead_gateway() -> dict[str, Any]:
    with subprocess.Popen(("sleep", "60")) as process:
        written = as_written(process)
        process.kill()
    return written


def leave_behind(base: Path, *children: dict[str, Any], gateway: dict[str, Any] | None = None) -> Path:
    """The directory of a gateway that was killed."""
    base.mkdir(mode=0o700, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="gw-", dir=base))
    state = {"gateway": gateway or dead_gateway(), "children": children}
    (directory / STATE_FILE).write_text(json.dumps(state))
    (directory / "123-1.sock").touch()
    return directory


def age(directory: Path) -> None:
    """As if nothing had changed there for a day."""
    yesterday = time.time() - 86_400
    os.utime(directory, (yesterday, yesterday))


def state_of(directory: RunDirectory) -> Any:
    return json.loads((directory.path / STATE_FILE).read_bytes())


def wait_dead(pid: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while alive(pid):
        assert time.monotonic() < end
        time.sleep(0.005)


def wait_read(pipe: int) -> None:
    """Until the process at the other end has taken what was written, and so has come to its reading."""
    end = time.monotonic() + 10
    while fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)) != bytes(4):
        assert time.monotonic() < end
        time.sleep(0.005)


class TestRunDirectory:
    def test_it_is_ours_alone_whatever_the_base_was(self, base: Path) -> None:
        base.mkdir(mode=0o777)
        directory = RunDirectory(base)
        assert stat.S_IMODE(base.stat().st_mode) == 0o700
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700

    def test_each_gateway_has_one_of_its_own(self, base: Path) -> None:
        assert RunDirectory(base).path != RunDirectory(base).path

    def test_a_base_that_somebody_else_made_is_refused(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        base.mkdir(mode=0o777)
        monkeypatch.setattr(os, "getuid", lambda: base.stat().st_uid + 1)
        with pytest.raises(PermissionError, match=r"base is not a directory of this user's own"):
            RunDirectory(base)
        assert list(base.iterdir()) == []

    def test_a_link_to_somewhere_else_is_refused(self, base: Path, short_path: Path) -> None:
        (short_path / "elsewhere").mkdir()
        base.symlink_to("elsewhere")
        with pytest.raises(PermissionError):
            RunDirectory(base)
        assert list((short_path / "elsewhere").iterdir()) == []

    def test_a_file_in_its_place_is_refused(self, base: Path) -> None:
        base.touch()
        with pytest.raises(OSError, match="exists"):
            RunDirectory(base)

    def test_no_two_spawns_share_a_socket(self, base: Path) -> None:
        directory = RunDirectory(base)
        sockets = {directory.socket(model, spawn) for model in ("a", "b", "x/y:z@é") for spawn in (1, 2, 3)}
        assert len(sockets) == 9
        assert {socket.parent for socket in sockets} == {directory.path}

    def test_children_are_written_down_as_long_as_they_are_ours(self, base: Path, engine: Spawned) -> None:
        directory = RunDirectory(base)
        one, two = engine(), engine("sleep", "61")
        directory.add(one.pid, argv_of(one))
        directory.add(two.pid, argv_of(two))
        assert state_of(directory)["children"] == [as_written(one), as_written(two)]
        directory.remove(one.pid)
        directory.remove(one.pid)
        assert state_of(directory)["children"] == [as_written(two)]
        assert sorted(path.name for path in directory.path.iterdir()) == [STATE_FILE]

    def test_the_gateway_itself_is_written_down_from_the_start(self, base: Path) -> None:
        gateway = Identity(**state_of(RunDirectory(base))["gateway"])
        assert gateway.pid == os.getpid()
        found = Identity(gateway.pid, gateway.started, tuple(gateway.arguments)).process()
        assert found == psutil.Process()

    def test_a_process_that_is_gone_already_needs_no_entry(self, base: Path) -> None:
        directory = RunDirectory(base)
        with subprocess.Popen(("true",)) as process:
            pass
        directory.add(process.pid, ("true",))
        assert state_of(directory)["children"] == []

    def test_arguments_that_are_no_text_can_be_written_down_too(self, base: Path, engine: Spawned) -> None:
        child = engine("sh", "-c", "sleep 60; exit", os.fsdecode(b"caf\xe9"))
        directory = RunDirectory(base)
        directory.add(child.pid, argv_of(child))
        assert Identity(**state_of(directory)["children"][0]).arguments[-1] == os.fsdecode(b"caf\xe9")

    def test_one_that_was_taken_away_is_made_again_for_the_next_engine(self, base: Path, engine: Spawned) -> None:
        directory, child = RunDirectory(base), engine()
        shutil.rmtree(base)
        assert directory.socket("a", 1).parent == directory.path
        assert stat.S_IMODE(base.stat().st_mode) == stat.S_IMODE(directory.path.stat().st_mode) == 0o700
        directory.add(child.pid, argv_of(child))
        shutil.rmtree(directory.path)
        directory.remove(child.pid)
        assert state_of(directory)["children"] == []

    def test_but_not_where_somebody_else_has_been_meanwhile(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        directory = RunDirectory(base)
        shutil.rmtree(directory.path)
        monkeypatch.setattr(os, "getuid", lambda: base.stat().st_uid + 1)
        with pytest.raises(PermissionError):
            directory.socket("a", 1)
        assert list(base.iterdir()) == []

    def test_it_stays_for_the_next_gateway_where_a_child_could_not_be_ended(self, base: Path, engine: Spawned) -> None:
        directory, child = RunDirectory(base), engine()
        directory.add(child.pid, argv_of(child))
        directory.close()
        assert state_of(directory)["children"] == [as_written(child)]

    def test_closing_removes_it_and_may_be_repeated(self, base: Path) -> None:
        directory = RunDirectory(base)
        directory.socket("a", 1).touch()
        directory.close()
        directory.close()
        assert list(base.iterdir()) == []


class TestDefaultBase:
    @pytest.fixture(autouse=True)
    def plain(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", "/tmp")

    def test_the_services_own_before_the_users_before_the_temporary_one(
        self, monkeypatch: pytest.MonkeyPatch, short_path: Path
    ) -> None:
        assert orphans.default_base() == Path(f"/tmp/llamaproxy-{os.getuid()}")
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path))
        assert orphans.default_base() == short_path / "llamaproxy"
        (short_path / "service").mkdir()
        monkeypatch.setenv("RUNTIME_DIRECTORY", str(short_path / "service"))
        assert orphans.default_base() == short_path / "service" / "llamaproxy"

    def test_one_that_is_not_there_is_not_taken(self, monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_path / "none"))
        assert orphans.default_base().parent == Path("/tmp")

    def test_nor_one_whose_sockets_would_have_paths_too_long_for_a_socket(
        self, monkeypatch: pytest.MonkeyPatch, short_path: Path
    ) -> None:
        for length in range(30, 80):
            runtime = short_path / ("x" * (length - len(str(short_path)) - 1))
            runtime.mkdir()
            monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
            base = orphans.default_base()
            longest = base / "gw-12345678" / "12345678-1000000.sock"
            assert len(os.fsencode(longest)) < 104


class TestIdentity:
    def test_all_of_it_must_match(self, engine: Spawned) -> None:
        process = engine()
        true = identify(process.pid, argv_of(process))
        assert true.process() == psutil.Process(process.pid)
        for other in (
            Identity(true.pid, true.started - 10, true.arguments),
            Identity(true.pid, true.started + 10, true.arguments),
            Identity(true.pid, true.started, ("61",)),
            Identity(true.pid, true.started, ("sleep", "60", "60")),
            Identity(os.getpid(), true.started, true.arguments),
            Identity(2**22 + 1, true.started, true.arguments),
            Identity(-1, true.started, true.arguments),
            Identity(0, true.started, true.arguments),
        ):
            assert other.process() is None

    def test_a_script_is_known_by_what_follows_its_name(self, engine: Spawned, tmp_path: Path) -> None:
        script = tmp_path / "engine"
        script.write_text("#!/bin/sh\necho up\nread line\nsleep 60\n")
        script.chmod(0o755)
        process = engine(str(script), "-m", "model.gguf")
        assert process.stdout
        process.stdout.readline()
        assert identify(process.pid, argv_of(process)).process()

    def test_a_zombie_is_nobody(self) -> None:
        process = subprocess.Popen(("sleep", "60"))
        identity = identify(process.pid, ("sleep", "60"))
        process.kill()
        wait_dead(process.pid, 5)
        assert identity.process() is None
        process.wait()


class TestReap:
    def test_what_a_dead_gateway_left_is_ended_and_removed(self, base: Path, engine: Spawned) -> None:
        one, two = engine(), engine("sleep", "61")
        directory = leave_behind(base, as_written(one), as_written(two))
        assert reap(base) == [one.pid, two.pid]
        assert not alive(one.pid)
        assert not alive(two.pid)
        assert not directory.exists()
        assert reap(base) == []

    def test_a_zombie_is_not_waited_for_because_its_parent_may_never_look(self, base: Path, engine: Spawned) -> None:
        leave_behind(base, *(as_written(engine()) for _ in range(3)))
        began = time.monotonic()
        assert len(reap(base)) == 3
        assert time.monotonic() - began < 1.5

    def test_with_all_that_it_started_itself(self, base: Path, engine: Spawned) -> None:
        process = engine("sh", "-c", "sleep 60 & echo $!; wait")
        assert process.stdout
        grandchild = int(process.stdout.readline())
        leave_behind(base, as_written(process))
        assert reap(base) == [process.pid]
        wait_dead(grandchild, 2)

    def test_even_when_it_ignores_being_asked(self, base: Path, engine: Spawned) -> None:
        process = engine("sh", "-c", "trap '' TERM INT HUP; echo up; while :; do sleep 0.01; done")
        assert process.stdout
        process.stdout.readline()
        leave_behind(base, as_written(process))
        assert reap(base) == [process.pid]
        assert not alive(process.pid)

    @pytest.mark.parametrize("change", [{"started": 1.0}, {"arguments": ["61"]}, {"arguments": ["serve", "60"]}])
    def test_a_process_that_only_has_the_same_number_is_spared(
        self, base: Path, engine: Spawned, change: dict[str, Any]
    ) -> None:
        process = engine()
        directory = leave_behind(base, as_written(process) | change)
        assert reap(base) == []
        assert alive(process.pid)
        assert not directory.exists()

    def test_one_that_is_gone_is_no_trouble(self, base: Path) -> None:
        directory = leave_behind(base, dead_gateway())
        assert reap(base) == []
        assert not directory.exists()

    def test_a_gateway_that_lives_keeps_everything(self, base: Path, engine: Spawned) -> None:
        gateway, child = engine("sleep", "59"), engine()
        directory = leave_behind(base, as_written(child), gateway=as_written(gateway))
        ours = RunDirectory(base)
        ours.add(child.pid, argv_of(child))
        assert reap(base) == []
        assert alive(child.pid)
        assert sorted(path.name for path in directory.iterdir()) == ["123-1.sock", STATE_FILE]
        assert state_of(ours)["children"] == [as_written(child)]

    def test_a_gateway_whose_number_was_given_away_does_not(self, base: Path, engine: Spawned) -> None:
        other, child = engine("sleep", "59"), engine()
        leave_behind(base, as_written(child), gateway=as_written(other) | {"arguments": ["serve"]})
        assert reap(base) == [child.pid]
        assert alive(other.pid)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\xff\x00",
            b'{"gateway": {"pid": 1',
            b"null",
            b"[]",
            b"{}",
            b'"gateway"',
            b'{"gateway": null, "children": []}',
            b'{"gateway": {"pid": "x", "started": 0, "arguments": []}, "children": []}',
            b'{"gateway": {"pid": Infinity, "started": 0, "arguments": []}, "children": []}',
            b'{"gateway": {"pid": 2, "started": 0, "arguments": ["-"]}, "children": [1]}',
            b'{"gateway": {"pid": 2, "started": 0, "arguments": 3}, "children": []}',
            b"[" * 100_000,
        ],
    )
    def test_what_cannot_be_understood_is_left_alone_and_hinders_nobody(
        self, base: Path, engine: Spawned, content: bytes
    ) -> None:
        child = engine()
        broken = leave_behind(base)
        (broken / STATE_FILE).write_bytes(content)
        leave_behind(base, as_written(child))
        assert reap(base) == [child.pid]
        assert broken.exists()

    def test_but_goes_in_the_end(self, base: Path) -> None:
        broken = leave_behind(base)
        (broken / STATE_FILE).write_bytes(b"{")
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(broken / "456-1.sock"))
        age(broken)
        assert reap(base) == []
        assert not broken.exists()

    def test_unless_one_of_its_engines_still_answers(self, base: Path) -> None:
        broken = leave_behind(base)
        (broken / STATE_FILE).unlink()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(broken / "456-1.sock"))
            listening.listen()
            age(broken)
            assert reap(base) == []
        assert broken.exists()

    def test_a_gateway_that_has_only_begun_is_left_alone(self, base: Path) -> None:
        directory = leave_behind(base)
        (directory / STATE_FILE).unlink()
        assert reap(base) == []
        assert directory.exists()

    def test_numbers_that_no_process_can_have_end_nobody(self, base: Path) -> None:
        for pid in (0, -1, 2**31, 10**30):
            leave_behind(base, {"pid": pid, "started": 0.0, "arguments": []}, gateway=dead_gateway() | {"pid": pid})
        assert reap(base) == []

    def test_nobody_was_here_before(self, base: Path) -> None:
        assert reap(base) == []
        assert not base.exists()

    def test_what_somebody_else_wrote_is_not_believed(
        self, base: Path, engine: Spawned, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        victim = engine()
        leave_behind(base, as_written(victim))
        monkeypatch.setattr(os, "getuid", lambda: base.stat().st_uid + 1)
        with pytest.raises(PermissionError):
            reap(base)
        assert alive(victim.pid)

    def test_nor_what_a_link_leads_to(self, base: Path, short_path: Path, engine: Spawned) -> None:
        victim = engine()
        directory = leave_behind(short_path / "elsewhere", as_written(victim))
        base.symlink_to("elsewhere")
        with pytest.raises(PermissionError):
            reap(base)
        assert alive(victim.pid)
        assert directory.exists()

    def test_after_a_real_gateway_was_really_killed(self, base: Path) -> None:
        child, _ = killed_gateway(base, watched=False)
        assert alive(child)
        assert reap(base) == [child]
        wait_dead(child, 2)
        assert list(base.iterdir()) == []


class TestWatchdog:
    def test_it_ends_the_children_when_the_gateway_lets_go_of_it(self, base: Path, engine: Spawned) -> None:
        directory, child, other = RunDirectory(base), engine(), engine("sleep", "61")
        directory.add(child.pid, argv_of(child))
        neighbour = RunDirectory(base)
        neighbour.add(other.pid, argv_of(other))
        with orphans.watch(directory.path) as watchdog:
            assert watchdog.stdin
            watchdog.stdin.close()
            assert watchdog.wait(10) == 0
        assert not alive(child.pid)
        assert not directory.path.exists()
        assert alive(other.pid)
        assert neighbour.path.exists()

    def test_until_then_it_only_waits(self, base: Path, engine: Spawned) -> None:
        directory, child = RunDirectory(base), engine()
        directory.add(child.pid, argv_of(child))
        with orphans.watch(directory.path) as watchdog:
            assert watchdog.stdin
            watchdog.stdin.write(b"x")
            watchdog.stdin.flush()
            wait_read(watchdog.stdin.fileno())
            assert watchdog.poll() is None
            watchdog.kill()
        assert alive(child.pid)
        assert directory.path.exists()

    def test_it_does_not_get_the_signals_of_the_gateways_terminal(self, base: Path) -> None:
        with orphans.watch(RunDirectory(base).path) as watchdog:
            assert os.getsid(watchdog.pid) == watchdog.pid
            watchdog.kill()

    def test_of_a_directory_that_is_gone_it_says_nothing(self, base: Path) -> None:
        directory = RunDirectory(base)
        with orphans.watch(directory.path) as watchdog:
            directory.close()
            assert watchdog.stdin
            watchdog.stdin.close()
            assert watchdog.wait(10) == 0

    def test_after_a_real_gateway_was_really_killed(self, base: Path) -> None:
        child, watchdog = killed_gateway(base, watched=True)
        wait_dead(child, 5)
        wait_dead(watchdog, 5)


GATEWAY = """
import subprocess, sys
from pathlib import Path
from llamaproxy.backends import orphans

directory = orphans.RunDirectory(Path(sys.argv[1]))
watchdog = orphans.watch(directory.path) if sys.argv[2] == "True" else None
child = subprocess.Popen(("sleep", "60"), start_new_session=True, stdout=subprocess.DEVNULL)
directory.add(child.pid, ("sleep", "60"))
print(child.pid, watchdog.pid if watchdog else 0, flush=True)
sys.stdin.read()
"""


def killed_gateway(base: Path, *, watched: bool) -> tuple[int, int]:
    """Starts a gateway with one child that outlives it, and kills it; the ids of child and watchdog."""
    argv = (sys.executable, "-c", GATEWAY, str(base), str(watched))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as gateway:
        assert gateway.stdout
        child, watchdog = map(int, gateway.stdout.readline().split())
        wait_executed(child)
        gateway.kill()
    return child, watchdog
