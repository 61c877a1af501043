"""llamaproxy.server.monitor: what is looked at, when, and at whose expense."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.config import Config
from llamaproxy.core.states import BackendState
from llamaproxy.server.gateway import Gateway
from llamaproxy.server.monitor import Monitor
from llamaproxy.telemetry import engines as engines_module
from llamaproxy.telemetry.gpu import Gpu
from llamaproxy.telemetry.series import COLUMNS, STEP
from tests.folders import short_folder
from tests.gateway import FAKE_ENGINE, fake_model, until

Begin = Callable[..., Awaitable[Gateway]]


@pytest.fixture
async def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Begin]:
    """A gateway with the model `m` that looks only when a test says so."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    begun: list[Gateway] = []

    async def beginning(**sections: Any) -> Gateway:
        monkeypatch.setattr(Monitor, "start", lambda self: None)
        sections.setdefault("models", {"m": fake_model(tmp_path, "m")})
        config = {"engine": {"binary": str(FAKE_ENGINE)}, "telemetry": {"database": "off"}, **sections}
        begun.append(Gateway(Config.model_validate(config), short_folder()))
        return begun[-1]

    yield beginning
    for gateway in begun:
        await gateway.close(0)
        await gateway.settle()


def seen(monitor: Monitor) -> None:
    """What was asked is answered."""
    for probe in (monitor.host, monitor.disk, monitor.nvidia, monitor.amd):
        probe.join(10)


def sample(monitor: Monitor) -> dict[str, float | None]:
    return dict(zip(COLUMNS, monitor.sample(), strict=True))


async def ready(gateway: Gateway, name: str = "m") -> None:
    gateway.pool.start(name)
    await until(lambda: gateway.pool.backends[name].state is BackendState.READY, "it is ready")


async def test_one_sample_for_each_step_of_the_clock(begin: Begin) -> None:
    gateway = await begin()
    monitor, series = gateway.monitor, gateway.history.series
    begun = monitor._sampled * STEP
    for second in range(0, 100, 3):
        monitor._look(begun + second)
    times = series.columns("1h", begun + 100)["timestamp"]
    assert times == [begun + STEP * step for step in range(1, 10)]


async def test_sample_of_a_machine(begin: Begin) -> None:
    gateway = await begin()
    nothing = sample(gateway.monitor)
    assert (nothing["cpu_percent"], nothing["disk_total"], nothing["gpu_percent"]) == (None, None, None)
    gateway.monitor._look(0)
    seen(gateway.monitor)
    found = sample(gateway.monitor)
    assert (found["memory_total"] or 0) > (found["memory_used"] or 0) > 0
    assert (found["disk_total"] or 0) > 0
    assert (found["active_models"], found["in_flight"], found["queued"]) == (0, 0, 0)
    await ready(gateway)
    gateway.monitor.generation.per_second = 15
    found = sample(gateway.monitor)
    assert (found["active_models"], found["generation_per_second"]) == (1, 15)


async def test_gpus_are_one_in_a_sample(begin: Begin) -> None:
    gateway = await begin()
    monitor = gateway.monitor
    monitor.nvidia._note((Gpu(0, "nvidia", "a", 50, 10, 100, 40, 200), Gpu(1, "nvidia", "b", 100, 20, 100, 60)), None)
    monitor.amd._note((Gpu(0, "amd", "c", None, 1, 1, None, 50.5),), None)
    found = sample(monitor)
    assert [value for name, value in found.items() if name.startswith("gpu_")] == [75, 31, 201, 60, 250.5]


async def test_folder_of_models(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert (await begin(catalog={"models_dir": str(tmp_path / "models")})).monitor.folder == tmp_path / "models"
    assert (await begin()).monitor.folder == tmp_path
    elsewhere = {"m": {"url": "http://127.0.0.1:9"}}
    assert (await begin(models=elsewhere)).monitor.folder == Path.home()


async def test_engine_in_use_is_asked_without_a_lease(begin: Begin) -> None:
    gateway = await begin()
    monitor = gateway.monitor
    monitor.engines.poke()
    assert monitor.engines.known() == {}
    assert gateway.pool.scheduler.live == 0, "looking starts nothing"
    await ready(gateway)
    idle_since = gateway.pool.backends["m"].idle_since
    monitor.engines.poke()
    await until(lambda: monitor.engines.known(), "it has answered")
    names = {reading.name for reading in monitor.engines.known()["m"].readings}
    assert {"prompt_tokens_total", "tokens_predicted_total", "requests_processing"} <= names
    assert gateway.pool.backends["m"].idle_since == idle_since, "looking is no use of it"
    assert gateway.ledger.received == 0
    gateway.pool.stop("m")
    await until(lambda: gateway.pool.backends["m"].state is BackendState.STOPPED, "it has stopped")
    monitor.engines.poke()
    assert monitor.engines.known() == {}


async def test_engine_that_hangs_delays_no_stop(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines_module, "_PATIENCE", 60)
    gateway = await begin(kv={"carry": False})
    await ready(gateway)
    life = gateway.pool.running("m")
    assert life
    hanging = asyncio.Event()

    async def never(*_: object) -> bytes:
        hanging.set()
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr("llamaproxy.backends.upstream.Answer.read", never)
    gateway.monitor.engines.poke()
    await asyncio.wait_for(hanging.wait(), 10)
    gateway.pool.stop("m")
    await asyncio.wait_for(life.exited.wait(), 5)


async def test_router_elsewhere_is_not_made_to_load_anything(begin: Begin) -> None:
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            asked.append(line.decode().split()[1])
            while (await reader.readline()).strip():
                pass
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    gateway = await begin(models={"m": {"url": f"http://127.0.0.1:{port}", "upstream_name": "org/x y"}})
    await ready(gateway)
    gateway.monitor.engines.poke()
    await until(lambda: any("metrics" in target for target in asked), "it is asked")
    assert asked[-1] == "/metrics?autoload=false&model=org%2Fx%20y"
    gateway.pool.stop("m")
    await until(lambda: gateway.pool.running("m") is None, "it has stopped")
    server.close()
