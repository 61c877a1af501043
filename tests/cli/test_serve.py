"""`llamaproxy serve` as a process: what it says, what it refuses, how it ends; for shutdown see tests/faults."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from pathlib import Path

import aiohttp

from llamaproxy.backends.ports import free_port
from llamaproxy.cli import serve
from tests.folders import short_folder
from tests.gateway import Client, GatewayProcess, fake_model, until


async def refused(tmp_path: Path, text: str, *flags: str, environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code and stderr of a gateway that does not start."""
    file = tmp_path / "bad.toml"
    file.write_text(text)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "llamaproxy", "serve", "--config", str(file), *flags),
        env={"XDG_RUNTIME_DIR": str(tmp_path), **(environment or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, stderr = await asyncio.wait_for(process.communicate(), 20)
    except TimeoutError:
        process.kill()
        raise
    return process.returncode or 0, stderr.decode()


async def test_bad_configuration_is_told_with_its_own_exit_code(tmp_path: Path) -> None:
    assert await refused(tmp_path, "[limits]\nmodels_mx = 1\n") == (
        78,
        "llamaproxy: limits.models_mx: unknown key, did you mean models_max?\n",
    )


async def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    code, stderr = await refused(
        tmp_path, '[server]\nmax_body = "big"\n[models.a]\npath = "a"\n[models.b]\npath = "b"\nctx_size = -1\n'
    )
    assert code == 78
    assert "server.max_body" in stderr and "models.b.ctx_size" in stderr


async def test_open_address_without_a_key_is_refused(tmp_path: Path) -> None:
    code, stderr = await refused(tmp_path, "", "--host", "0.0.0.0")
    assert code == 78
    assert "llamaproxy keys create" in stderr


def test_the_collector_leaves_alone_what_is_there_from_the_start() -> None:
    before = gc.get_threshold()
    try:
        serve.spare_collector()
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[0] > before[0]
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def test_flag_wins_over_environment_wins_over_file(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {"server": {"port": 1}}, {"LLAMAPROXY_SERVER__PORT": "0"})
    async with gateway.running():
        assert not gateway.url.endswith(":1")


async def test_preloaded_models_are_there_before_anyone_asks(tmp_path: Path) -> None:
    models = {
        "m": fake_model(tmp_path, "m", preload=True),
        "gone": {"path": str(tmp_path / "gone.gguf"), "preload": True},
    }
    gateway = GatewayProcess(tmp_path, {"models": models})
    async with gateway.running(), aiohttp.ClientSession() as session:
        await Client(gateway, session).state_is("m", "ready")
        assert "preload: gone: the model file" in gateway.log


async def test_idle_gateway_ends_at_once_and_cleanly(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {})
    async with gateway.running():
        gateway.signal(signal.SIGINT)
        assert await gateway.wait(5) == 0
        assert "Traceback" not in gateway.log


async def test_run_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    runtime = short_folder()
    (runtime / "llamaproxy").write_text("in the way")
    code, stderr = await refused(tmp_path, "[server]\nport = 0\n", environment={"XDG_RUNTIME_DIR": str(runtime)})
    assert code == 1
    assert "no run directory" in stderr


async def test_stderr_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    unread, stderr = os.pipe()
    os.set_blocking(stderr, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(stderr, b"x")
    os.set_blocking(stderr, True)
    gateway = GatewayProcess(
        tmp_path, {"telemetry": {"log_level": "debug"}, "models": {"m": fake_model(tmp_path, "m")}}
    )
    try:
        await gateway.start(stderr)
        async with aiohttp.ClientSession() as session:
            assert (await Client(gateway, session).chat("m"))[0] == 200
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait() == 0
    finally:
        await gateway.stop()
        os.close(unread)
        os.close(stderr)


async def test_nothing_is_left_where_it_ran(tmp_path: Path) -> None:
    folder = short_folder()
    gateway = GatewayProcess(tmp_path, {"models": {"m": fake_model(tmp_path, "m")}}, {"TMPDIR": str(folder)})
    async with gateway.running(), aiohttp.ClientSession() as session:
        assert (await Client(gateway, session).chat("m"))[0] == 200
        assert list(gateway.runtime.rglob("*.sock"))
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait() == 0
    assert [path for path in (*folder.rglob("*"), *gateway.runtime.rglob("*")) if path.name != "llamaproxy"] == []


async def test_further_ports_are_told_and_answer(tmp_path: Path) -> None:
    ports = {"ollama_port": free_port(), "lmstudio_port": free_port()}
    gateway = GatewayProcess(tmp_path, {"server": {"port": 0, **ports}, "models": {"m": fake_model(tmp_path, "m")}})
    async with gateway.running(), aiohttp.ClientSession() as session:
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        assert (await session.get(urls["ollama_port"] + "/api/tags")).status == 200
        assert (await session.get(urls["lmstudio_port"] + "/api/v0/models")).status == 200
        told = [f"server.{name}: listening on {url}" for name, url in urls.items()]
        await until(lambda: all(line in gateway.log for line in told), "it is told")
        gateway.signal(signal.SIGTERM)
        assert await gateway.wait() == 0
