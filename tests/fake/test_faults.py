"""Every fault of the fake llama-server happens when it was asked for, and only then."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fake.harness import CHAT, SCRIPT, Starter, chat, read_until, rest, silent, until

# --- faults before the model is loaded


def test_exit_at_start_says_why(start: Starter) -> None:
    fake = start(EXIT_AT_START=3)
    assert fake.ended() == 3
    assert "exiting" in fake.log
    assert not fake.path.exists()
    assert [line[0] for line in start.journal()] == ["spawn", "exit"]


def test_counts_hold_when_processes_race(start: Starter) -> None:
    fakes = [start(EXIT_AT_START=3, EXIT_AT_START_TIMES=3) for _ in range(8)]
    until(lambda: sum(fake.process.poll() is not None or fake.listening() for fake in fakes) == 8)
    assert [fake.process.poll() for fake in fakes].count(3) == 3


def test_counts_are_kept_for_each_model(start: Starter) -> None:
    assert [start("-a", name, EXIT_AT_START=3, EXIT_AT_START_TIMES=1).ended() for name in "ab"] == [3, 3]
    start("-a", "a", EXIT_AT_START=3, EXIT_AT_START_TIMES=1).ready()


def test_oom_ends_like_a_failed_allocation(start: Starter) -> None:
    fake = start(OOM=1)
    assert fake.ended() == 1
    assert "alloc_buffer: failed to allocate buffer of size" in fake.log


def test_socket_is_taken_for_the_first_spawn_only(start: Starter) -> None:
    first = start(SOCKET_TAKEN=1)
    assert first.ended() == 1
    assert "couldn't bind" in first.log
    start(SOCKET_TAKEN=1).ready()


def test_killed_while_loading(start: Starter) -> None:
    fakes = [start(KILL_DURING_LOAD_TIMES=2, LOAD_SECONDS=0.3) for _ in range(2)]
    assert [fake.ended() for fake in fakes] == [-signal.SIGKILL] * 2
    assert "loading model" in fakes[0].log
    assert "model loaded" not in fakes[0].log
    start(KILL_DURING_LOAD_TIMES=2).ready()


def test_health_stays_503(start: Starter) -> None:
    fake = start(HEALTH_ALWAYS_503=1, LOAD_SECONDS=0)
    until(fake.listening)
    # The load would be over by the time of the second answer.
    assert [fake.ask("GET", "/health").status for _ in range(20)] == [503] * 20


def test_sigterm_while_loading_kills(start: Starter) -> None:
    fake = start(LOAD_SECONDS=5)
    until(fake.listening)
    assert fake.ask("GET", "/health").status == 503
    fake.process.terminate()
    assert fake.ended() == -signal.SIGTERM


# --- faults while serving


def test_dies_in_mid_stream_as_often_as_told(start: Starter) -> None:
    faults = {"DIE_AFTER_TOKENS": 3, "DIE_TIMES": 1}
    fake = start(**faults).ready()
    with fake.post(CHAT, chat(stream=True)) as connection:
        answer = rest(connection)
    assert answer.count(b'"content":"') == 3
    assert b"[DONE]" not in answer
    assert fake.ended() == -signal.SIGKILL
    assert start(**faults).ready().ask("POST", CHAT, chat(stream=True)).body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("name", ["KILL", "SEGV", "ABRT"])
def test_dies_before_the_first_byte(start: Starter, name: str) -> None:
    fake = start(DIE_BEFORE_FIRST_BYTE_TIMES=1, DIE_SIGNAL=name).ready()
    with fake.post(CHAT, chat()) as connection:
        assert rest(connection) == b""
    assert fake.ended() == -signal.Signals[f"SIG{name}"]
    assert ("GGML_ASSERT" in fake.log) == (name == "ABRT")
    assert start(DIE_BEFORE_FIRST_BYTE_TIMES=1).ready().ask("POST", CHAT, chat()).status == 200


def test_poison_kills_and_only_poison(start: Starter) -> None:
    fake = start(POISON="arsenic").ready()
    assert fake.ask("POST", CHAT, chat("sugar")).status == 200
    with fake.post(CHAT, chat("arsenic")) as connection:
        assert rest(connection) == b""
    assert fake.ended() == -signal.SIGSEGV


def test_crash_when_idle(start: Starter) -> None:
    began = time.monotonic()
    fake = start(CRASH_IDLE_SECONDS=0.3, DIE_SIGNAL="SEGV").ready()
    assert fake.ended() == -signal.SIGSEGV
    assert time.monotonic() - began > 0.3


def test_inference_500_leaves_health_alone(start: Starter) -> None:
    fake = start(INFERENCE_500=1).ready()
    answer = fake.ask("POST", CHAT, chat())
    assert (answer.status, answer.json["error"]["type"]) == (500, "server_error")
    assert fake.ask("GET", "/health").status == 200


def test_any_fault_can_be_limited(start: Starter) -> None:
    fake = start(INFERENCE_500=1, INFERENCE_500_TIMES=2).ready()
    assert [fake.ask("POST", CHAT, chat()).status for _ in range(3)] == [500, 500, 200]


@pytest.mark.parametrize("stream", [True, False])
def test_hang_before_the_first_byte(start: Starter, stream: bool) -> None:
    fake = start("--sse-ping-interval", "0.1", HANG_BEFORE_FIRST_BYTE=1).ready()
    with fake.post(CHAT, chat(stream=stream)) as connection:
        assert silent(connection)
    assert fake.ask("GET", "/health").status == 200


def test_hang_after_tokens(start: Starter) -> None:
    fake = start("--sse-ping-interval", "0.1", HANG_AFTER_TOKENS=2).ready()
    with fake.post(CHAT, chat(stream=True)) as connection:
        assert b"word3" not in read_until(connection, b"word2")
        assert silent(connection)


MALFORMED = {
    "status": rb"NONSENSE",
    "nul_header": rb"HTTP/1.1 200 OK\r\n.*\0",
    "both_lengths": rb"(?s)HTTP/1.1 200 OK\r\nContent-Length: .*Transfer-Encoding: chunked\r\n",
    "early_close": rb"HTTP/1.1 200 OK\r\nContent-Ty$",
    "short_body": rb"(?s)HTTP/1.1 200 OK.*Content-Length: 1000\r\n\r\n.{1,999}$",
    "short_chunk": rb"(?s)HTTP/1.1 200 OK.*chunked\r\n\r\n9\r\ndata: 1\n\n\r\nFF\r\n.{1,254}$",
    "bad_chunk": rb"(?s)HTTP/1.1 200 OK.*chunked\r\n\r\n9\r\ndata: 1\n\n\r\nnone\r\n",
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_malformed(start: Starter, kind: str) -> None:
    fake = start(MALFORMED=kind, MALFORMED_TIMES=1).ready()
    with fake.post(CHAT, chat()) as connection:
        assert re.match(MALFORMED[kind], rest(connection))
    assert fake.ask("POST", CHAT, chat()).status == 200


def test_slow_header_comes_byte_by_byte(start: Starter) -> None:
    fake = start(MALFORMED="slow_header").ready()
    with fake.post(CHAT, chat()) as connection:
        assert connection.recv(100) == b"H"
        began = time.monotonic()
        assert connection.recv(100) == b"T"
    assert 0.5 < time.monotonic() - began < 3


def test_closes_a_reused_connection(start: Starter) -> None:
    fake = start(CLOSE_REUSED=1, KEEPALIVE=60).ready()
    with fake.raw(b"GET /health HTTP/1.1\r\n\r\n") as connection:
        read_until(connection, b'{"status":"ok"}')
        requests = len(start.journal("request"))
        connection.sendall(b"GET")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(1) == b""
    assert len(start.journal("request")) == requests


def test_grandchild_holds_the_pipe_within_the_group(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--host", str(tmp_path / "s.sock")]
    environment = {"FAKE_GRANDCHILD": "1", "PATH": os.environ["PATH"]}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, start_new_session=True)
    try:
        assert process.stderr
        output = process.stderr.fileno()
        data = b""
        while b"listening" not in data:
            data += os.read(output, 1 << 16)
        process.kill()
        process.wait()
        os.set_blocking(output, False)
        with pytest.raises(BlockingIOError):
            os.read(output, 1)
        os.killpg(process.pid, signal.SIGKILL)
        os.set_blocking(output, True)
        assert os.read(output, 1) == b""
    finally:
        process.kill()
        assert process.stderr
        process.stderr.close()


def test_flood_has_no_newline_and_serving_goes_on(start: Starter) -> None:
    fake = start(STDERR_FLOOD_BYTES=3_000_000).ready()
    until(lambda: fake.log.count("#") == 3_000_000)
    assert "#" * 1000 in fake.log
    assert fake.ask("POST", CHAT, chat()).status == 200
