"""The servers that are measured: a gateway of ours, and llama-server in router mode.

Owns their processes, from a new folder to the last child. Both run the same llama-server with the same arguments on
the same files, so that what differs is what they decide. Each counts its engine starts itself: ours in /api/models, the
router in its log.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import psutil

from bench.machine import Neighbours

PATIENCE = 20.0
"""Seconds in which a server must begin to listen, and end when it is told to."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What both are told. `settings` are more sections of our configuration, which the router has no word for."""

    engine: str
    models: Mapping[str, Path]
    models_max: int = 1
    ctx_size: int = 2048
    threads: int = 1
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class Peer:
    """One server. As a context: it runs, listens at `url`, and nothing of it is left afterwards."""

    name: str

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.url = ""
        # Sockets have short paths.
        self.folder = Path(tempfile.mkdtemp(prefix="lp-bench-"))
        self._log = self.folder / "log"
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self.neighbours = Neighbours()
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(), env=self._environment(), stdout=asyncio.subprocess.DEVNULL, stderr=log
            )
        try:
            async with asyncio.timeout(PATIENCE):
                await self._listening()
        except BaseException:  # its process must not outlive a start that was interrupted
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process
        left = self.engines()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.returncode is None:
                self._process.send_signal(number)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), PATIENCE)
        for engine in left:
            with suppress(psutil.NoSuchProcess):
                engine.kill()
        shutil.rmtree(self.folder)

    def engines(self) -> list[psutil.Process]:
        """The engine processes that run now."""
        assert self._process
        try:
            found = psutil.Process(self._process.pid).children()
            return [child for child in found if child.status() != psutil.STATUS_ZOMBIE]
        except psutil.NoSuchProcess:
            return []

    def kill_an_engine(self, chance: random.Random) -> bool:
        """SIGKILL to any of them; False where none runs."""
        if not (running := self.engines()):
            return False
        with suppress(psutil.NoSuchProcess):
            chance.choice(running).kill()
        return True

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    async def starts(self) -> int:
        """Engines started so far."""
        raise NotImplementedError

    async def figures(self) -> dict[str, float]:
        """What is known of a run at its end; `others_pct` is what other processes took of the machine."""
        return {"others_pct": self.neighbours.share(), "starts": await self.starts()}

    def _command(self) -> Sequence[str]:
        raise NotImplementedError

    def _environment(self) -> Mapping[str, str]:
        """Without what would set options behind our back."""
        return {name: value for name, value in os.environ.items() if not name.startswith(("LLAMAPROXY_", "LLAMA_"))}

    async def _listening(self) -> None:
        while not await self._healthy():
            if self._process and self._process.returncode is not None:
                raise SystemExit(f"{self.name} did not start:\n{self.log[-2000:]}")
            await asyncio.sleep(0.05)

    async def _healthy(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + "/health") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False


class Gateway(Peer):
    """llamaproxy of this tree."""

    name = "llamaproxy"

    async def starts(self) -> int:
        return sum(model["starts"] for model in (await self.get("/api/models"))["models"])

    async def load_seconds(self) -> float:
        """The longest measured load of any model."""
        loads = [model["load_seconds"] for model in (await self.get("/api/models"))["models"]]
        return max((load for load in loads if load is not None), default=0.0)

    async def waited(self, model: str) -> float:
        """Seconds from arrival to lease, the longest of the model's last requests."""
        rows = [row for row in await self._rows() if row["model"] == model]
        return max(((row["queue_ms"] or 0) + (row["load_ms"] or 0) for row in rows), default=0.0) / 1000

    async def figures(self) -> dict[str, float]:
        """With the replays of the last requests."""
        return {**await super().figures(), "replays": sum(row["replays"] for row in await self._rows())}

    async def _rows(self) -> list[dict[str, Any]]:
        """The last 1,000 requests; the gateway keeps no more."""
        rows: list[dict[str, Any]] = (await self.get("/api/requests?limit=1000"))["requests"]
        return rows

    async def get(self, path: str) -> Any:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return await response.json()

    def _command(self) -> Sequence[str]:
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        file = self.folder / "llamaproxy.toml"
        file.write_text(to_toml(self._configuration(port)))
        return sys.executable, "-m", "llamaproxy", "serve", "--config", str(file)

    def _configuration(self, port: int) -> dict[str, Mapping[str, Any]]:
        told = self.setting
        shared = {"ctx_size": told.ctx_size, "threads": told.threads}
        config: dict[str, Mapping[str, Any]] = {
            "server": {"port": port},
            "engine": {"binary": told.engine},
            "limits": {"models_max": told.models_max},
            **{f"models.{name}": {"path": str(path), **shared} for name, path in told.models.items()},
        }
        return config | {name: {**config.get(name, {}), **section} for name, section in told.settings.items()}

    def _environment(self) -> Mapping[str, str]:
        folders = ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_STATE_HOME")
        return {**super()._environment(), **dict.fromkeys(folders, str(self.folder))}


class Router(Peer):
    """llama-server's own router mode: no model of its own, a directory of them, and children that serve them."""

    name = "router"
    _SPAWNED = "spawning server instance with name="

    async def starts(self) -> int:
        return self.log.count(self._SPAWNED)

    def _command(self) -> Sequence[str]:
        told, port = self.setting, _free_port()
        self.url = f"http://127.0.0.1:{port}"
        directory = self.folder / "models"
        directory.mkdir()
        for name, path in told.models.items():
            (directory / f"{name}.gguf").symlink_to(path)
        shared = ("--ctx-size", str(told.ctx_size), "--threads", str(told.threads))
        models = ("--models-dir", str(directory), "--models-max", str(told.models_max))
        return told.engine, "--host", "127.0.0.1", "--port", str(port), *models, *shared


PEERS: tuple[type[Peer], ...] = (Gateway, Router)


def to_toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """TOML of sections with plain values, which are written in it as in JSON."""
    lines: list[str] = []
    for name, section in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    """Below the ephemeral range, where asking for a port that nobody listens at can find oneself."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
