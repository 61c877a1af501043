"""What is measured: how each candidate is started before the fake engine, and what its processes have used.

Owns folders, configuration files and processes, and ends them all. A candidate has one processor and everything else
the others, where there are two: its share of the machine is then the same whatever runs beside it. Measures nothing by
itself. The engine behind a gateway is not part of it, whoever started it.
"""

import contextlib
import hashlib
import http.client
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from llamaproxy.backends.ports import free_port

ENGINE = Path(__file__).with_name("engine.py").resolve()
EMPTY_GGUF = b"GGUF\x03\x00\x00\x00" + bytes(16)
"""A whole GGUF file, version 3, of no tensors and no keys."""
START = 90.0
"""Seconds in which a candidate answers its first request."""
STOP = 10.0
"""Seconds between TERM and KILL."""

# Opened to many connections, buffers no answer and no upload, keeps connections to the engine. One worker, because
# that is what the others are.
_NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_max_body_size 0;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  upstream engine {{ server unix:{socket}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"""

_GATEWAY = """
[engine]
binary = "{engine}"
[telemetry]
log_level = "warning"
database = "{database}"
"""


@dataclass(frozen=True, slots=True)
class Running:
    """One candidate that answers at `port`. No process: there is nothing between client and engine."""

    name: str
    port: int
    process: psutil.Process | None = None
    key: str | None = None

    def cpu(self) -> float:
        """Seconds of processor time that its processes have used."""
        return self._sum(lambda process: sum(process.cpu_times()[:2]))

    def memory(self) -> int:
        """Bytes that are resident."""
        return int(self._sum(lambda process: process.memory_info().rss))

    def _sum(self, read: Callable[[psutil.Process], float]) -> float:
        """Over the process that was started and all below it; one that ends meanwhile takes what it used with it."""
        total = 0.0
        for process in _tree(self.process) if self.process else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += 0.0 if str(ENGINE) in process.cmdline() else read(process)
        return total


def _tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


Start = Callable[[Path], contextlib.AbstractContextManager[Running]]
"""Starts a candidate in a folder of its own; it is ready, and is ended when the block is left."""


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    start: Start

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        with tempfile.TemporaryDirectory(prefix="proxy-bench-") as folder, self.start(Path(folder)) as running:
            yield running


class Unstartable(Exception):
    """The candidate cannot be measured; the message says why."""


@dataclass(frozen=True, slots=True)
class Processors:
    """Who runs where: the candidate, and all others."""

    candidate: frozenset[int]
    others: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> "Processors":
        """Empty sets where processes cannot be told, or where there is nothing to tell apart."""
        if not hasattr(os, "sched_getaffinity") or len(all_ := sorted(os.sched_getaffinity(0))) < 2:
            return cls(frozenset(), frozenset())
        return cls(frozenset(all_[-1:]), frozenset(all_[:-1]))

    def keep_to(self, pid: int, where: frozenset[int]) -> None:
        if where:
            os.sched_setaffinity(pid, where)


PROCESSORS = Processors.of_this_machine()


def engine_command() -> list[str]:
    """The engine as a program, for measurements: it closes no connection by itself."""
    cpus = ["--cpus", ",".join(map(str, sorted(PROCESSORS.others)))] if PROCESSORS.others else []
    return [sys.executable, str(ENGINE), "--idle-close", "0", "--most-requests", "0", *cpus]


@contextlib.contextmanager
def engine(host: str, port: int = 0) -> Iterator[None]:
    with _process([*engine_command(), "--host", host, "--port", str(port)], Path(os.devnull)):
        yield


def direct(upstream: int) -> Candidate:
    """Nothing in between."""

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Running]:
        yield _ready(Running("direct", upstream), Path(os.devnull))

    return Candidate("direct", start)


def nginx() -> Candidate | None:
    """None where it is not installed."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin")
    if program is None:
        return None

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Running]:
        port, socket, log = free_port(), folder / "engine.sock", folder / "error.log"
        # The worker of a master that is root would be somebody else, who may not look into our folder.
        user = "user root;" if os.geteuid() == 0 else ""
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, user=user, socket=socket, port=port))
        command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(log)]
        with engine(str(socket)), _process(command, log, PROCESSORS.candidate) as process:
            yield _ready(Running("nginx", port, process), log)

    return Candidate("nginx", start)


def llamaproxy(
    name: str = "llamaproxy", models: int = 1, keys: int = 0, more: str = "", python: Sequence[str] = (sys.executable,)
) -> Candidate:
    """This gateway, which starts the engine itself; `more` is configuration."""

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Running]:
        port, log = free_port(), folder / "gateway.log"
        configuration = folder / "llamaproxy.toml"
        configuration.write_text(gateway_configuration(folder, models, keys) + more)
        command = [*python, "-m", "llamaproxy", "serve", "--port", str(port), "--config", str(configuration)]
        key = _secret(0) if keys else None
        with _process(command, log, PROCESSORS.candidate, {"XDG_RUNTIME_DIR": str(folder)}) as process:
            yield _ready(Running(name, port, process, key), log)

    return Candidate(name, start)


def compiled(python: str) -> Candidate:
    """The one that is installed for this Python, which must not find the source beside us instead."""
    name, alone = "llamaproxy, compiled", (python, "-I")
    ask = "import llamaproxy.core.framing as module; print(module.__file__)"

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Running]:
        try:
            found = subprocess.run([*alone, "-c", ask], capture_output=True, text=True).stdout.strip()
        except OSError as error:
            raise Unstartable(f"cannot execute {python}: {error.strerror}") from error
        if Path(found).suffix in ("", ".py"):
            raise Unstartable(f"{python} has no compiled llamaproxy")
        with llamaproxy(name, python=alone).start(folder) as running:
            yield running

    return Candidate(name, start)


def gateway_configuration(folder: Path, models: int, keys: int) -> str:
    """Writes what it names: an empty model, and the engine as an executable file."""
    program, model = folder / "engine", folder / "m.gguf"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(engine_command())} "$@"\n')
    program.chmod(0o700)
    model.write_bytes(EMPTY_GGUF)
    names = ["m", *(f"m{number}" for number in range(1, models))]
    text = [_GATEWAY.format(engine=program, database=folder / "llamaproxy.db")]
    text += (f'[models.{name}]\npath = "{model}"\nconcurrency = 10000\n' for name in names)
    text += (f'[keys.k{number}]\nsha256 = "{_hash(_secret(number))}"\n' for number in range(keys))
    return "".join(text)


def _secret(number: int) -> str:
    return f"lp-bench-{number}"


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def peer(name: str, command: str, upstream: int) -> Candidate:
    """Any other one, by a command with the places `{port}`, to listen on, and `{upstream}`, the engine's URL."""

    @contextlib.contextmanager
    def start(folder: Path) -> Iterator[Running]:
        port, log = free_port(), folder / "peer.log"
        told = command.replace("{port}", str(port)).replace("{upstream}", f"http://127.0.0.1:{upstream}")
        with _process(shlex.split(told), log, PROCESSORS.candidate) as process:
            yield _ready(Running(name, port, process), log)

    return Candidate(name, start)


@contextlib.contextmanager
def _process(
    command: Sequence[str], log: Path, where: frozenset[int] = frozenset(), environment: dict[str, str] | None = None
) -> Iterator[psutil.Process]:
    """Runs in a session of its own, and is ended with the block, as is all below it."""
    with log.open("ab") as output:
        try:
            started = subprocess.Popen(
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise Unstartable(f"cannot execute {command[0]}: {error.strerror}") from error
    PROCESSORS.keep_to(started.pid, where)
    process = psutil.Process(started.pid)
    try:
        yield process
    finally:
        _end(started, _tree(process))


def _end(started: subprocess.Popen[bytes], tree: Sequence[psutil.Process]) -> None:
    """Whatever of its tree is left then is killed; psutil tells a process from a later one with the same number."""
    started.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        started.wait(STOP)
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    started.wait()


def _ready(running: Running, log: Path) -> Running:
    """Once it answers a chat request with the engine's answer. Raises Unstartable."""
    end = time.monotonic() + START
    while (status := _ask(running)) != 200:
        gone = running.process is not None and running.process.status() == psutil.STATUS_ZOMBIE
        if gone or time.monotonic() > end:
            words = "" if log == Path(os.devnull) else log.read_text("utf-8", "replace")[-500:]
            raise Unstartable(f"{running.name} does not answer (status {status}): {words.strip()}")
        time.sleep(0.05)
    return running


def _ask(running: Running) -> int | None:
    connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=START)
    fields = {"Content-Type": "application/json", "Authorization": f"Bearer {running.key or 'none'}"}
    try:
        connection.request("POST", "/v1/chat/completions", b'{"model":"m","messages":[]}', fields)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
