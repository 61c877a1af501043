"""Starting fake llama-servers and talking to them, for their own tests.

Owns the processes it starts, and ends them. Must not use anything of the fake but its command line.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("llama_server.py")
CHAT = "/v1/chat/completions"
Json = dict[str, Any]


def chat(text: str = "hi there", **more: object) -> Json:
    return {"messages": [{"role": "user", "content": text}], **more}


def until(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Wait for something that only looking can tell."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.002)
    return result


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[Json]:
        """The JSON of every event, without `[DONE]`."""
        return [json.loads(line[6:]) for line in self.body.decode().splitlines() if line.startswith("data: {")]


class Client(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("fake")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(20)
        self.sock.connect(str(self._path))

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        self.request(method, path, None if body is None else json.dumps(body), headers)
        return Answer(self.getresponse())

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Fake:
    """One fake llama-server on a Unix socket."""

    def __init__(self, folder: Path, state: Path, arguments: tuple[str, ...], faults: dict[str, object]) -> None:
        self.path = folder / "s.sock"
        self._log = folder / "stderr"
        environment = {f"FAKE_{name}": str(value) for name, value in {"STATE": state, **faults}.items()}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(SCRIPT), "-m", "/models/tiny.gguf", "--host", str(self.path), *arguments],
                env={"PATH": os.environ["PATH"], **environment},
                stderr=log,
                start_new_session=True,
            )

    def listening(self) -> bool:
        try:
            self.raw().close()
        except OSError:
            return False
        return True

    def raw(self, sent: bytes = b"") -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        try:
            connection.connect(str(self.path))
        except OSError:
            connection.close()
            raise
        connection.sendall(sent)
        return connection

    def post(self, path: str, body: object, extra: str = "") -> socket.socket:
        """A request whose answer is left to be read."""
        data = json.dumps(body).encode()
        return self.raw(f"POST {path} HTTP/1.1\r\nContent-Length: {len(data)}\r\n{extra}\r\n".encode() + data)

    def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        with Client(self.path) as client:
            return client.ask(method, path, body, **headers)

    def ready(self) -> "Fake":
        until(self.listening)
        until(lambda: self.ask("GET", "/health").status == 200)
        return self

    def metric(self, name: str) -> float:
        text = self.ask("GET", "/metrics").body.decode()
        return float(re.findall(rf"^llamacpp:{name} (.*)$", text, re.MULTILINE)[0])

    @property
    def log(self) -> str:
        return self._log.read_text()

    def ended(self) -> int:
        return self.process.wait(10)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Starter:
    def __init__(self, state: Path) -> None:
        self.state = state
        self._started: list[Fake] = []
        # Sockets have short paths.
        self._folder = tempfile.TemporaryDirectory(prefix="fk-")

    def __call__(self, *arguments: str, **faults: object) -> Fake:
        folder = Path(self._folder.name) / str(len(self._started))
        folder.mkdir()
        self._started.append(Fake(folder, self.state, arguments, faults))
        return self._started[-1]

    def journal(self, *first: str) -> list[list[str]]:
        path = self.state / "journal"
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line[0] in first or not first]

    def stop(self) -> None:
        for fake in self._started:
            fake.kill()
        self._folder.cleanup()


def rest(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    data = b""
    while block := connection.recv(1 << 16):
        data += block
    return data


def read_until(connection: socket.socket, mark: bytes) -> bytes:
    data = b""
    while mark not in data:
        block = connection.recv(1 << 16)
        assert block, data
        data += block
    return data


def silent(connection: socket.socket, seconds: float = 0.3) -> bool:
    """Whether nothing comes, not even the end."""
    connection.settimeout(seconds)
    try:
        connection.recv(1)
    except TimeoutError:
        return True
    return False
