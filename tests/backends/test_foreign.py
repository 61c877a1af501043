"""llamaproxy.backends.foreign: commands of the operator's own, and servers elsewhere, made ready to run."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.backends import foreign
from llamaproxy.backends.life import Life
from llamaproxy.backends.orphans import RunDirectory
from llamaproxy.backends.remote import Remote
from llamaproxy.backends.spawn import Spawn
from llamaproxy.config import EngineConfig
from llamaproxy.core.events import BackendExited, BackendReady
from llamaproxy.errors import ModelStartFailed
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.tasks import spawn
from tests.backends.processes import PATIENCE, alive
from tests.gateway import FAKE_ENGINE

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(60)]

PROGRAM = (sys.executable, "-S", str(FAKE_ENGINE))


def model(*command: str, **settings: Any) -> ModelConfig:
    return ModelConfig(command=command, **settings)


def prepare(config: ModelConfig, run: RunDirectory) -> Life:
    return foreign.prepare("qwen", 3, config, EngineConfig(env={"ALL": "1"}), run, os.environ)


class TestCheck:
    def faults(self, config: ModelConfig, path: str = "/nowhere") -> str:
        with pytest.raises(ModelStartFailed) as caught:
            foreign.check("qwen", config, EngineConfig(), {"PATH": path})
        return caught.value.message

    def test_what_is_there_is_good(self, tmp_path: Path) -> None:
        program = tmp_path / "serve"
        program.write_text("#!/bin/sh")
        program.chmod(0o755)
        for words, path in (((str(program),), "/nowhere"), (("serve",), str(tmp_path))):
            foreign.check("qwen", model(*words, "${port}"), EngineConfig(), {"PATH": path})
        own = model("serve", "${port}", env={"PATH": str(tmp_path)})
        foreign.check("qwen", own, EngineConfig(), {"PATH": "/nowhere"})
        foreign.check("qwen", ModelConfig(url="http://h"), EngineConfig(), {})

    def test_what_is_not_is_named(self, tmp_path: Path) -> None:
        gone, plain = tmp_path / "gone", tmp_path / "plain"
        plain.write_text("words")
        assert self.faults(model("gone", "${port}")) == "qwen: the program gone is not on PATH"
        assert self.faults(model(str(gone), "${port}")) == f"qwen: the program {gone} does not exist"
        assert self.faults(model(str(plain), "${port}")) == f"qwen: the program {plain} is not executable"

    def test_without_unix_sockets_it_needs_a_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(foreign, "UNIX_SOCKETS", False)
        assert "its command needs a port" in self.faults(model("sh", "${socket}"), os.environ["PATH"])
        foreign.check("qwen", model("sh", "${port}"), EngineConfig(), os.environ)


class TestPrepare:
    async def test_a_server_elsewhere(self, run_directory: RunDirectory) -> None:
        config = ModelConfig(url="http://h.test/v1", api_key="hunter2", health_path="/up")
        life = prepare(config, run_directory)
        assert isinstance(life, Remote)
        assert (str(life.upstream.address), life.upstream.address.key) == ("http://h.test", "hunter2")
        assert life.upstream.health_path == "/up"
        assert "hunter2" not in repr(life.upstream.address)
        await life.upstream.close()

    @pytest.mark.parametrize(
        ("settings", "scheme"),
        [
            ({"command": ["x", "${socket}"]}, "unix:"),
            ({"command": ["x", "${port}"]}, "127.0.0.1:"),
            ({"command": ["x", "${port}"], "port": 9001}, "127.0.0.1:9001"),
            ({"command": ["x"], "port": 9001}, "127.0.0.1:9001"),
        ],
    )
    async def test_where_a_command_listens(
        self, run_directory: RunDirectory, settings: dict[str, Any], scheme: str
    ) -> None:
        life = prepare(ModelConfig.model_validate(settings), run_directory)
        assert isinstance(life, Spawn)
        assert str(life.upstream.address).startswith(scheme)
        await life.upstream.close()

    @pytest.mark.parametrize(
        "listen", [("--host", "${socket}"), ("--host", "127.0.0.1", "--port", "${port}", "--api-key", "${api_key}")]
    )
    async def test_a_command_lives_like_an_engine_of_ours(
        self, run_directory: RunDirectory, short_path: Path, listen: tuple[str, ...]
    ) -> None:
        env = {"FAKE_STATE": str(short_path), "FAKE_GRANDCHILD": "1"}
        life = prepare(model(*PROGRAM, "-m", "${name}.gguf", *listen, env=env, health_path="/v1/models"), run_directory)
        reports: asyncio.Queue[BackendReady | BackendExited] = asyncio.Queue()
        running = spawn(life.run(reports.put_nowait), name="run")
        assert await asyncio.wait_for(reports.get(), PATIENCE) == BackendReady("qwen", 3)
        async with life.upstream.exchange("GET", "/v1/models", b"", None) as answer:
            assert (json.loads(await answer.read()))["data"][0]["id"] == "qwen.gguf"
        assert any("listening on" in line for line in life.log.tail(100))
        state = json.loads((run_directory.path / "state.json").read_text())
        assert (pid := life.pid) and [child["pid"] for child in state["children"]] == [pid]
        await life.stop()
        await asyncio.wait_for(running, PATIENCE)
        assert not alive(pid)
        journal = (short_path / "journal").read_text().split()
        assert "/v1/models" in journal and "/health" not in journal
