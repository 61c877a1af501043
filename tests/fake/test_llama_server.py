"""What tests may rely on when they use the fake llama-server: its command line, its start, its end, its journal."""

import contextlib
import hashlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fake import faults, llama_server
from tests.fake.harness import CHAT, SCRIPT, Client, Starter, chat, read_until, rest, silent, until

LOADING = b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'


# --- the command line and the start


def test_socket_opens_before_the_model_is_loaded_and_soon(start: Starter) -> None:
    def seconds() -> float:
        began = time.perf_counter()
        until(start(LOAD_SECONDS=5).listening)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(3)) < 0.25


def test_every_route_is_503_until_loaded(start: Starter) -> None:
    fake = start("--metrics", LOAD_SECONDS=0.5)
    until(fake.listening)
    for method, path in ("GET", "/health"), ("GET", "/v1/health"), ("GET", "/metrics"), ("POST", CHAT), ("GET", "/no"):
        answer = fake.ask(method, path)
        assert (answer.status, answer.body) == (503, LOADING)
    fake.ready()
    assert fake.ask("GET", "/v1/health").json == {"status": "ok"}


def test_log_is_that_of_llama_server(start: Starter) -> None:
    fake = start().ready()
    seen = [fake.log.index(part) for part in ("load_model: loading model", "model loaded", "listening on unix:///")]
    assert seen == sorted(seen)
    assert re.match(r"0\.00\.\d{3}\.\d{3} I srv ", fake.log)


def test_runs_by_its_own_name_through_a_link_from_anywhere(tmp_path: Path) -> None:
    link = tmp_path / "llama-server"
    link.symlink_to(SCRIPT)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run([link], cwd="/", env={"PATH": path, "FAKE_EXIT_AT_START": "7"}, capture_output=True)
    assert done.returncode == 7, done.stderr


def test_unknown_flags_are_accepted(start: Starter) -> None:
    fake = start("--fit", "off", "-ngl", "99", "--jinja", "--temp", "-1", "-np", "2").ready()
    assert fake.ask("GET", "/props").json["total_slots"] == 2


@pytest.mark.parametrize(
    ("arguments", "name"), [((), "/models/tiny.gguf"), (("-a", "z,b"), "b"), (("--alias", "x"), "x")]
)
def test_model_is_named_by_alias_or_path(start: Starter, arguments: tuple[str, ...], name: str) -> None:
    fake = start(*arguments).ready()
    assert fake.ask("GET", "/v1/models").json["data"][0]["id"] == name
    assert fake.ask("GET", "/models").json["models"][0]["name"] == name
    assert fake.ask("POST", CHAT, chat(model="other")).json["model"] == name


@pytest.mark.parametrize("by_flag", [True, False])
def test_tcp_and_api_key(by_flag: bool, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, str(SCRIPT), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--api-key", "a,b"] if by_flag else command,
        env={} if by_flag else {"LLAMA_API_KEY": "a,b"},
        stderr=subprocess.DEVNULL,
    )

    def status(path: str, **headers: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        except ConnectionError:
            return 0
        finally:
            connection.close()

    try:
        until(lambda: status("/health") == 200)
        assert status("/v1/models") == status("/no") == status("/v1/models", Authorization="Bearer c") == 401
        assert status("/v1/models", Authorization="Bearer b") == 200
        assert status("/v1/models", **{"X-Api-Key": "a"}) == 200
    finally:
        process.kill()
        process.wait()


def test_stale_socket_file_makes_the_next_start_exit_1(start: Starter) -> None:
    first = start()
    until(first.listening)
    first.kill()
    second = start("--host", str(first.path))
    assert second.ended() == 1
    assert "couldn't bind HTTP server socket" in second.log


def test_every_variable_is_in_the_table() -> None:
    documented = set(re.findall(r"FAKE_([A-Z0-9_]+)", str(llama_server.__doc__)))
    assert documented == faults.KNOWN


@pytest.mark.parametrize(
    "environment",
    [
        {"FAKE_DIE_AFTER_TOKEN": "1"},
        {"FAKE_OOM_TIMES": "1", "FAKE_OOM": "1"},
        {"FAKE_MALFORMED": "x", "FAKE_STATE": "/"},
    ],
)
def test_a_mistake_in_the_faults_is_refused(environment: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], env=environment, capture_output=True, text=True)
    assert done.returncode == 64
    assert next(iter(environment)) in done.stderr


# --- the end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_when_idle_ends_it_at_once(start: Starter, number: signal.Signals) -> None:
    fake = start().ready()
    with Client(fake.path) as idle:
        idle.ask("GET", "/health")
        began = time.monotonic()
        fake.process.send_signal(number)
        assert fake.ended() == 0
    assert time.monotonic() - began < 0.5
    assert start.journal()[-1] == ["exit", str(fake.process.pid)]
    assert fake.path.exists(), "llama-server leaves it behind"


@pytest.mark.parametrize("stream", [True, False])
def test_sigterm_while_serving_makes_it_silent_until_the_client_leaves(start: Starter, stream: bool) -> None:
    fake = start(TOKEN_SECONDS=0.01).ready()
    with fake.post(CHAT, chat(stream=stream, max_tokens=10_000)) as connection:
        until(lambda: any(slot["is_processing"] for slot in fake.ask("GET", "/slots").json))
        fake.process.terminate()
        until(lambda: not fake.listening())
        connection.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            connection.recv(1 << 20)  # what was written before the signal
        assert silent(connection)
        assert fake.process.poll() is None
    began = time.monotonic()
    assert fake.ended() == 0
    assert time.monotonic() - began < (0.5 if stream else 2)


def test_second_sigterm_exits_1(start: Starter) -> None:
    fake = start(HANG_BEFORE_FIRST_BYTE=1, PREFILL_SECONDS=0).ready()
    with fake.post(CHAT, chat()):
        until(lambda: any(slot["is_processing"] for slot in fake.ask("GET", "/slots").json))
        fake.process.terminate()
        until(lambda: not fake.listening())
        fake.process.terminate()
        assert fake.ended() == 1


def test_pings_and_the_end_of_a_stream_after_sigterm(start: Starter) -> None:
    fake = start("--sse-ping-interval", "0.2", PREFILL_SECONDS=0.5, TOKEN_SECONDS=60).ready()
    with fake.post(CHAT, chat(stream=True)) as connection:
        assert b"\r\n\r\n3\r\n:\n\n\r\n" in read_until(connection, b":\n\n\r\n"), "head and comment before any data"
        read_until(connection, b"tiny:")
        fake.process.terminate()
        assert b"0\r\n\r\n" not in rest(connection), "closed at the next ping, without the last chunk"
    assert fake.ended() == 0


def test_ignores_sigterm(start: Starter) -> None:
    fake = start(IGNORE_SIGTERM=1, LOAD_SECONDS=0.3)
    until(fake.listening)
    fake.process.terminate()
    fake.ready().process.terminate()
    assert fake.ask("POST", CHAT, chat()).status == 200


@pytest.mark.parametrize("outlives", [False, True])
def test_dies_with_its_parent_unless_told_not_to(start: Starter, outlives: bool, tmp_path: Path) -> None:
    environment = {"FAKE_STATE": str(tmp_path), "FAKE_LIFE_SECONDS": "3"}
    environment |= {"FAKE_OUTLIVE_PARENT": "1"} if outlives else {}
    address = str(start(LOAD_SECONDS=9).path.with_name("orphan.sock"))
    parent = (
        f"import subprocess; subprocess.Popen([{sys.executable!r}, {str(SCRIPT)!r}, '--host', {address!r}]); input()"
    )
    command = [sys.executable, "-c", parent]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        until(lambda: any(line[2] == "model" for line in start.journal("spawn")))
        pid = int(next(line[1] for line in start.journal("spawn") if line[2] == "model"))
        until(lambda: Path(address).exists())
        process.kill()
        began = time.monotonic()
    until(lambda: not runs(pid))
    assert (time.monotonic() - began > 1.5) == outlives


def runs(pid: int) -> bool:
    """Zombies do not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_life_is_limited(start: Starter) -> None:
    assert start(LIFE_SECONDS=0.3).ended() == -signal.SIGALRM


# --- the journal


def test_journal(start: Starter) -> None:
    before = time.monotonic()
    fake = start("-a", "two words").ready()
    pid = str(fake.process.pid)
    fake.ask("POST", CHAT, chat(), **{"X-Request-Id": "r1"})
    fake.ask("GET", "/no")
    fake.process.terminate()
    fake.ended()
    lines = [line for line in start.journal() if "/health" not in line]
    assert lines[0][:3] == ["spawn", pid, "two%20words"]
    assert before < float(lines[0][3]) < time.monotonic()
    assert lines[1:] == [
        ["request", pid, "POST", CHAT, "r1"],
        ["done", pid, "POST", CHAT, "r1", "200"],
        ["request", pid, "GET", "/no", "-"],
        ["done", pid, "GET", "/no", "-", "404"],
        ["exit", pid],
    ]


def test_journal_tells_bodies_and_departures_where_it_shall(start: Starter) -> None:
    fake = start(RECORD=1, TOKEN_SECONDS=0.02).ready()
    body = fake.ask("POST", "/fake/body?a=b", {"x": 1}).json
    assert body == {"length": 8, "sha256": hashlib.sha256(b'{"x": 1}').hexdigest()}
    assert start.journal("request")[-1][-2:] == ["/fake/body?a=b", body["sha256"]]
    with fake.post(CHAT, chat(stream=True, max_tokens=1000)) as connection:
        read_until(connection, b"word2")
        before = time.monotonic()
    (aborted,) = until(lambda: start.journal("aborted"))
    assert before < float(aborted[-1]) < time.monotonic()
