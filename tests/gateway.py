"""A real gateway as a process of its own, for tests that need all of it.

Owns the configuration file, the process and what the tests ask about it. Its engines are the fake llama-server unless
a test says otherwise.
"""

import asyncio
import contextlib
import json
import os
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp
import psutil

from tests.folders import short_folder

FAKE_ENGINE = Path(__file__).parent / "fake" / "llama_server.py"
EMPTY_GGUF = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
"""A whole GGUF file, version 3, of no tensors and no keys."""
PATIENCE = 20.0
"""Seconds after which something that should have happened is taken for never happening."""

PROMPT = "aubergine"
"""A word of every prompt, which must stand in no log."""

Table = Mapping[str, Any]


def fake_model(folder: Path, name: str, **settings: Any) -> Table:
    """A model of the fake engine; `env` is added to its environment."""
    path = folder / f"{name}.gguf"
    path.write_bytes(EMPTY_GGUF)
    env = {"FAKE_STATE": str(folder), **settings.pop("env", {})}
    return {"path": str(path), "env": env, **settings}


def to_toml(config: Mapping[str, Table]) -> str:
    """TOML for the shapes configuration has: tables of values, and tables of such tables."""
    lines: list[str] = []
    for section, table in config.items():
        nested = {key: value for key, value in table.items() if section in ("models", "keys")}
        for name, inner in nested.items() or [(None, table)]:
            lines.append(f"[{section}.{json.dumps(name)}]" if name else f"[{section}]")
            lines += (f"{key} = {_value(value)}" for key, value in inner.items())
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)


async def until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """Wait for something that only looking can tell."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}")
        await asyncio.sleep(0.01)
    return result


class GatewayProcess:
    """One `llamaproxy serve`; `log` is what it wrote to stderr."""

    def __init__(self, folder: Path, config: Mapping[str, Table], environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._file = folder / "llamaproxy.toml"
        self._environment = dict(environment or {})
        self._log = folder / "gateway.log"
        self._process: asyncio.subprocess.Process | None = None
        # Sockets have short paths.
        self.runtime = short_folder()
        self.url = ""
        self.write(config)

    def write(self, config: Mapping[str, Table]) -> None:
        """The configuration file; a running gateway reads it again when it sees that, or is told."""
        whole = self._file.with_suffix(".new")
        whole.write_text(to_toml({"engine": {"binary": str(FAKE_ENGINE)}, "server": {"port": 0}, **config}))
        # A gateway that watches must not find half of it.
        whole.replace(self._file)

    async def start(self, stderr: int | None = None) -> None:
        """`stderr` is a descriptor, where it shall not be the log."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LLAMAPROXY_")}
        folders = {f"XDG_{name.upper()}_HOME": str(self._folder / name) for name in ("cache", "state")}
        own = {"XDG_RUNTIME_DIR": str(self.runtime), **folders}
        environment = {**kept, **own, **self._environment}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "llamaproxy", "serve", "--config", str(self._file)),
                env=environment,
                stdout=asyncio.subprocess.PIPE,
                stderr=log if stderr is None else stderr,
            )
        assert self._process.stdout
        line = (await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)).decode()
        assert "listening on" in line, f"{line!r}\n{self.log}"
        self.url = line.split("listening on ")[1].split()[0]

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def wait(self, timeout: float = PATIENCE) -> int:
        assert self._process
        return await asyncio.wait_for(self._process.wait(), timeout)

    async def stop(self) -> None:
        """End it, whatever state it is in."""
        if self._process and self._process.returncode is None:
            # It may have been reaped already, and the event loop has not been told yet.
            with contextlib.suppress(ProcessLookupError):
                self.signal(signal.SIGTERM)
            try:
                await self.wait()
            except TimeoutError:
                self.signal(signal.SIGKILL)
                await self.wait()

    def children(self) -> list[psutil.Process]:
        """Engines that run: zombies are children, but do not run."""
        try:
            found = psutil.Process(self.pid).children(recursive=True)
            return [child for child in found if child.status() != psutil.STATUS_ZOMBIE]
        except psutil.NoSuchProcess:
            return []

    def zombies(self) -> list[psutil.Process]:
        found = psutil.Process(self.pid).children(recursive=True)
        return [child for child in found if child.status() == psutil.STATUS_ZOMBIE]

    def descriptors(self) -> int:
        return psutil.Process(self.pid).num_fds()

    def has_open(self, name: str) -> bool:
        """Whether it has a file of this name open."""
        return any(Path(file.path).name == name for file in psutil.Process(self.pid).open_files())

    def threads(self) -> int:
        return psutil.Process(self.pid).num_threads()

    def resident(self) -> int:
        """Bytes of memory in use."""
        return psutil.Process(self.pid).memory_info().rss

    def journal(self) -> list[list[str]]:
        """What the fake engines wrote down, a list of words for each line."""
        path = self._folder / "journal"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def spawns(self, model: str | None = None) -> int:
        return sum(1 for line in self.journal() if line[0] == "spawn" and model in (None, line[2]))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        await self.start()
        try:
            yield self
        finally:
            await self.stop()


class Client:
    """What a client of the gateway does in tests."""

    def __init__(self, gateway: GatewayProcess, session: aiohttp.ClientSession) -> None:
        self.gateway = gateway
        self.session = session

    async def get(self, path: str) -> Any:
        async with self.session.get(self.gateway.url + path) as response:
            return await response.json()

    async def chat(self, model: str, **body: Any) -> tuple[int, Any]:
        """Status and body of a unary chat completion."""
        async with self.post("/v1/chat/completions", {**chat_body(model), **body}) as response:
            return response.status, await response.json()

    @asynccontextmanager
    async def stream(self, model: str, **body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self.post("/v1/chat/completions", {**chat_body(model), "stream": True, **body}) as response:
            yield response

    @asynccontextmanager
    async def post(self, path: str, body: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with self.session.post(self.gateway.url + path, json=body) as response:
            yield response

    async def model(self, name: str) -> dict[str, Any]:
        listed = (await self.get("/api/models"))["models"]
        found: dict[str, Any] = next(model for model in listed if model["name"] == name)
        return found

    async def state_is(self, name: str, state: str) -> None:
        end = time.monotonic() + PATIENCE
        while (await self.model(name))["state"] != state:
            assert time.monotonic() < end, f"{name} is not {state}: {await self.model(name)}"
            await asyncio.sleep(0.01)

    async def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get("/api/requests?limit=1000"))["requests"]
        return found

    async def totals(self) -> dict[str, int]:
        found: dict[str, int] = (await self.get("/api/requests?limit=1"))["totals"]
        return found

    async def settled(self) -> dict[str, int]:
        """The totals, once nothing is in flight."""
        end = time.monotonic() + PATIENCE
        while (totals := await self.totals())["in_flight"]:
            assert time.monotonic() < end, totals
            await asyncio.sleep(0.02)
        return totals


def chat_body(model: str) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": f"Say {PROMPT}"}]}
