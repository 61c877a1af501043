"""The gateway's own life: shutting down, being killed, coming back, and clients that leave."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.faults.conftest import Start
from tests.gateway import Client, GatewayProcess, Table, fake_model, until

SLOW = {"FAKE_TOKEN_SECONDS": "0.05"}


def runs(pid: int) -> bool:
    """A zombie has an id, but does not run."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def read_all(response: aiohttp.ClientResponse) -> bytes:
    return await response.read()


async def test_term_lets_streams_end_and_leaves_nothing(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {"models": {"m": fake_model(tmp_path, "m", env=SLOW)}})
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        async with client.stream("m", max_tokens=20) as response:
            await response.content.readline()
            engines = [child.pid for child in gateway.children()]
            gateway.signal(signal.SIGTERM)
            await until(lambda: "shutting down" in gateway.log, "the signal arrives")
            status, body = await client.chat("m")
            assert (status, body["error"]["code"]) == (503, "shutting_down")
            assert b"[DONE]" in await response.read()
        assert await gateway.wait() == 0
        assert engines and not any(runs(pid) for pid in engines)
        assert list((gateway.runtime / "llamaproxy").iterdir()) == []


async def test_pages_hold_up_no_shutdown_and_are_told_of_it(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {"models": {"m": fake_model(tmp_path, "m")}})
    async with gateway.running(), aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{gateway.url}/llamaproxws") as page:
            assert (await page.receive_json())["event"] == "hello"
            gateway.signal(signal.SIGTERM)
            assert (await page.receive()).type is aiohttp.WSMsgType.CLOSE
            assert page.close_code == 1001
        assert await gateway.wait() == 0
        assert "cut off" not in gateway.log


async def test_streams_that_outlast_the_drain_are_cut_off_with_an_error(tmp_path: Path) -> None:
    config: dict[str, Table] = {
        "models": {"m": fake_model(tmp_path, "m", env=SLOW)},
        "server": {"port": 0, "drain_timeout": "300ms"},
    }
    gateway = GatewayProcess(tmp_path, config)
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        async with client.stream("m", max_tokens=10_000) as response:
            await response.content.readline()
            gateway.signal(signal.SIGTERM)
            received = b""
            with pytest.raises(aiohttp.ClientPayloadError):
                async for chunk in response.content.iter_any():
                    received += chunk
        assert b'"error"' in received and b"[DONE]" not in received
        assert await gateway.wait() == 0
        assert not gateway.children()


async def test_requests_without_a_first_byte_at_the_end_of_the_drain_are_answered(tmp_path: Path) -> None:
    config: dict[str, Table] = {
        "models": {"m": fake_model(tmp_path, "m", env={"FAKE_HANG_BEFORE_FIRST_BYTE": "1"})},
        "server": {"port": 0, "drain_timeout": "300ms"},
    }
    gateway = GatewayProcess(tmp_path, config)
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        answer = asyncio.create_task(client.chat("m"))  # noqa: TID251 - a test has no use for tasks.spawn
        await client.state_is("m", "ready")
        gateway.signal(signal.SIGTERM)
        status, body = await answer
        assert (status, body["error"]["code"]) == (503, "shutting_down")
        assert await gateway.wait() == 0


async def test_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    config: dict[str, Table] = {"models": {"m": fake_model(tmp_path, "m", env={**SLOW, "FAKE_IGNORE_SIGTERM": "1"})}}
    gateway = GatewayProcess(tmp_path, config)
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        async with client.stream("m", max_tokens=10_000) as response:
            await response.content.readline()
            engines = [child.pid for child in gateway.children()]
            gateway.signal(signal.SIGTERM)
            await until(lambda: "shutting down" in gateway.log, "the first signal arrives")
            begun = time.monotonic()
            gateway.signal(signal.SIGINT)
            assert await gateway.wait() == 0
            assert time.monotonic() - begun < 8, "neither the drain nor the engine's deafness is waited for"
        assert engines and not any(runs(pid) for pid in engines)


async def test_killed_gateway_leaves_no_engine(tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, {"models": {"m": fake_model(tmp_path, "m", env={"FAKE_OUTLIVE_PARENT": "1"})}})
    async with gateway.running(), aiohttp.ClientSession() as session:
        await Client(gateway, session).chat("m")
        engines = [child.pid for child in gateway.children()]
        gateway.signal(signal.SIGKILL)
        await gateway.wait()
        await until(lambda: not any(runs(pid) for pid in engines), "the kernel ends the engines", 1)
        assert engines


async def test_restart_reaps_what_a_killed_gateway_left(tmp_path: Path) -> None:
    model = fake_model(tmp_path, "m", env={"FAKE_OUTLIVE_PARENT": "1"})
    gateway = GatewayProcess(tmp_path, {"models": {"m": model}})
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        await client.chat("m")
        gateway.signal(signal.SIGKILL)
        await gateway.wait()
        (left,) = (gateway.runtime / "llamaproxy").iterdir()
        await gateway.start()
        assert not left.exists()
        assert (await client.chat("m"))[0] == 200
        assert len(gateway.children()) == 1


async def test_leftover_engine_is_ended_at_the_next_start(tmp_path: Path) -> None:
    """What the kernel did not end: an engine's own child, here, that outlived both."""
    env = {"FAKE_GRANDCHILD": "1"}
    gateway = GatewayProcess(tmp_path, {"models": {"m": fake_model(tmp_path, "m", env=env)}})
    async with gateway.running(), aiohttp.ClientSession() as session:
        client = Client(gateway, session)
        await client.chat("m")
        group = {child.pid for child in gateway.children()}
        assert len(group) == 2
        pid = (await client.model("m"))["pid"]
        session_of = {member: os.getsid(member) for member in group}
        assert set(session_of.values()) == {pid}, "one signal reaches all of it"
        await client.session.post(gateway.url + "/models/unload", json={"model": "m"})
        await until(lambda: not any(runs(member) for member in group), "the whole group goes")


async def test_client_that_leaves_a_queue_is_forgotten(start: Start, tmp_path: Path) -> None:
    models = {"busy": fake_model(tmp_path, "busy", env=SLOW), "cold": fake_model(tmp_path, "cold")}
    async with start({"models": models, "limits": {"models_max": 1}}) as client:
        async with client.stream("busy", max_tokens=40) as response:
            await response.content.readline()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.chat("cold"), 0.3)
            end = time.monotonic() + 2
            while (await client.model("cold"))["queued"]:
                assert time.monotonic() < end
                await asyncio.sleep(0.01)
            await response.read()
        assert client.gateway.spawns("cold") == 0, "nobody wants it any more"


async def test_only_client_leaving_while_its_model_loads_ends_nothing_else(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_LOAD_SECONDS": "0.5"}
    async with start({"models": {"m": fake_model(tmp_path, "m", env=env)}}) as client:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.chat("m"), 0.2)
        await client.state_is("m", "ready")
        assert (await client.chat("m"))[0] == 200
        assert client.gateway.spawns("m") == 1
        assert {row["state"] for row in await client.rows()} == {"client_abort", "ok"}


async def test_client_leaving_a_stream_frees_the_engine(start: Start, tmp_path: Path) -> None:
    async with start({"models": {"m": fake_model(tmp_path, "m", env=SLOW)}}) as client:
        async with client.stream("m", max_tokens=10_000) as response:
            await response.content.readline()
        await until(
            lambda: any(line[0] == "aborted" for line in client.gateway.journal()), "the engine sees the close", 2
        )
        end = time.monotonic() + 2
        while not (rows := await client.rows()) or rows[0]["state"] != "client_abort":
            assert time.monotonic() < end, rows
            await asyncio.sleep(0.01)


async def test_client_leaving_in_the_prompt_phase_frees_the_engine(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_PREFILL_SECONDS": "5"}
    async with start({"models": {"m": fake_model(tmp_path, "m", env=env)}}) as client:
        await client.session.post(client.gateway.url + "/models/load", json={"model": "m"})
        await client.state_is("m", "ready")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.chat("m"), 0.3)
        await until(lambda: any(line[0] == "aborted" for line in client.gateway.journal()), "the engine sees it", 2)


async def test_port_that_is_taken_is_a_clear_failure(tmp_path: Path) -> None:
    first = GatewayProcess(tmp_path, {})
    async with first.running():
        port = int(first.url.rsplit(":", 1)[1])
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "llamaproxy", "serve", "--port", str(port)),
            env={
                **os.environ,
                "XDG_RUNTIME_DIR": str(first.runtime),
                **dict.fromkeys(("XDG_CACHE_HOME", "XDG_STATE_HOME"), str(tmp_path)),
            },
            stderr=asyncio.subprocess.PIPE,
        )
        _, stderr = await process.communicate()
        assert process.returncode == 1
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use\n" in stderr.decode()
