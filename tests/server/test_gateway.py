"""How a backend is prepared, and what a changed configuration means for the parts of a running gateway."""

import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.config import Config
from llamaproxy.configfile import Source
from llamaproxy.errors import ConfigError, GatewayError
from llamaproxy.models.staging import STAGING
from llamaproxy.server.gateway import Gateway
from tests.folders import short_folder
from tests.gateway import FAKE_ENGINE, to_toml, until
from tests.models.ggufs import write

Start = Callable[..., Gateway]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """A gateway whose configuration stands in a file; called again, only the file changes."""
    started: list[Gateway] = []
    file = tmp_path / "llamaproxy.toml"

    def starting(**sections: Any) -> Gateway:
        sections["engine"] = {"binary": str(FAKE_ENGINE), **sections.get("engine", {})}
        sections.setdefault("kv", {"carry": False})
        sections["telemetry"] = {"database": str(tmp_path / "llamaproxy.db"), **sections.get("telemetry", {})}
        file.write_text(to_toml(sections))
        if not started:
            source = Source(file)
            started.append(Gateway(source.load(), short_folder(), source))
        return started[0]

    yield starting
    for gateway in started:
        await gateway.close(0)
        await gateway.settle()


def model(path: Path, **settings: Any) -> dict[str, Any]:
    return {"path": str(path), **settings}


async def test_headers_are_read_before_anybody_waits_for_them(start: Start, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf")
    gateway = start(models={"m": model(path)})
    assert gateway.headers.peek(path) is None
    gateway.read_headers()
    await until(lambda: gateway.headers.peek(path), "the header is read")


async def test_downloads_that_nobody_goes_on_with_are_removed(start: Start, tmp_path: Path) -> None:
    left = tmp_path / "models" / STAGING / "qwen"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    start(catalog={"models_dir": str(tmp_path / "models")}).tidy()
    await until(lambda: not left.exists(), "it is removed")


async def test_what_is_not_startable_is_told_before_anybody_is_evicted(start: Start, tmp_path: Path) -> None:
    (junk := tmp_path / "junk.gguf").write_bytes(b"junk")
    gateway = start(models={"junk": model(junk), "gone": model(tmp_path / "gone.gguf")})
    for name, words in (("junk", "junk.gguf"), ("gone", "does not exist")):
        with pytest.raises(GatewayError, match=words):
            gateway.pool.start(name)
    assert not gateway.pool.scheduler.live


async def test_estimate_is_known_before_the_first_start(start: Start, tmp_path: Path) -> None:
    gateway = start(models={"m": model(write(tmp_path / "m.gguf"))}, limits={"memory_budget": 1_000_000})
    with pytest.raises(GatewayError) as caught:
        async with gateway.pool.lease("m"):
            pass
    assert caught.value.code == "model_out_of_memory"


async def test_what_is_expected_of_a_start_is_told_by_headers_that_were_read(start: Start, tmp_path: Path) -> None:
    path = write(tmp_path / "m.gguf")
    gateway = start(models={"m": model(path), "far": {"url": "http://127.0.0.1:9"}})
    assert gateway.expected("m") is None
    gateway.headers.get(path)
    expected = gateway.expected("m")
    assert expected
    assert expected.ram > path.stat().st_size
    assert gateway.expected("far") is None


async def test_successor_that_is_no_more_is_not_read_ahead(start: Start) -> None:
    start()._expect("removed")


async def test_reload_reaches_every_part(start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="llamaproxy")  # and back again at the end
    path = write(tmp_path / "m.gguf")
    gateway = start(models={"old": model(path)})
    start(
        models={"new": model(path, preload=True)},
        server={"allowed_origins": ["https://chat.example.com"]},
        telemetry={"log_level": "debug"},
    )
    changes = await gateway.reloader.reload()
    assert (changes.added, changes.removed) == (("new",), ("old",))
    assert list(gateway.pool.backends) == ["new"]
    assert gateway.current.guard.allows_origin("https://chat.example.com")
    assert logging.getLogger("llamaproxy").level == logging.DEBUG
    assert gateway.pool.scheduler.live == 1, "it is loaded, as it asks to be"


async def test_address_stays_and_is_the_one_that_must_be_guarded(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = start(server={"port": 1111, "lmstudio_port": 1234})
    start(server={"host": "0.0.0.0", "port": 2222, "ollama_port": 11434, "lmstudio_port": 1234})
    await gateway.reloader.reload()
    assert (gateway.config.server.host, gateway.config.server.port) == ("127.0.0.1", 1111)
    assert gateway.config.server.ollama_port is None
    assert "by a restart only: server.host, server.port, server.ollama_port\n" in caplog.text


async def test_configuration_that_cannot_be_served_changes_nothing(start: Start) -> None:
    gateway = start()
    start(engine={"args": ["--api-key", "x"]})
    with pytest.raises(ConfigError, match="--api-key"):
        await gateway.reloader.reload()
    assert gateway.config.engine.args == ()
    assert isinstance(gateway.config, Config)


async def test_labels_are_the_names_of_the_configuration(start: Start, tmp_path: Path) -> None:
    key = {"sha256": "0" * 64}
    gateway = start(models={"m": model(tmp_path / "m.gguf")}, keys={"alice": key})
    assert (gateway.traffic.model("m"), gateway.traffic.model("n"), gateway.traffic.key("alice")) == (
        "m",
        "other",
        "alice",
    )
    start(models={"n": model(tmp_path / "n.gguf")}, keys={"bob": key})
    await gateway.reloader.reload()
    assert (gateway.traffic.model("m"), gateway.traffic.model("n"), gateway.traffic.key("bob")) == ("other", "n", "bob")
