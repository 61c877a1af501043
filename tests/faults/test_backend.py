"""Backends that fail: at start, while loading, before and after the first byte, and when they are asked to leave."""

import asyncio
import json
import os
import signal
import time
from pathlib import Path

import aiohttp
import pytest

from tests.faults.conftest import Start
from tests.gateway import FAKE_ENGINE as FAKE
from tests.gateway import PROMPT, Table, fake_model, until


async def test_exit_at_start_is_told_and_the_third_opens_the_breaker(start: Start, tmp_path: Path) -> None:
    models = {"bad": fake_model(tmp_path, "bad", env={"FAKE_EXIT_AT_START": "1"}), "good": fake_model(tmp_path, "good")}
    async with start({"models": models, "limits": {"models_max": 1}}) as client:
        assert (await client.chat("good"))[0] == 200
        for _ in range(3):
            status, body = await client.chat("bad")
            assert (status, body["error"]["code"]) == (503, "model_start_failed")
            assert body["error"]["detail"], "the engine's last lines say why"
        status, body = await client.chat("bad")
        assert (status, body["error"]["code"]) == (503, "model_unavailable")
        assert body["error"]["detail"], "its last words are still told"
        assert client.gateway.spawns("bad") == 3, "an open breaker starts nothing"
        assert (await client.chat("good"))[0] == 200


async def test_open_breaker_evicts_nobody(start: Start, tmp_path: Path) -> None:
    models = {"bad": fake_model(tmp_path, "bad", env={"FAKE_EXIT_AT_START": "1"}), "good": fake_model(tmp_path, "good")}
    async with start({"models": models, "limits": {"models_max": 1}}) as client:
        for _ in range(3):
            await client.chat("bad")
        await client.chat("good")
        pid = (await client.model("good"))["pid"]
        for _ in range(5):
            assert (await client.chat("bad"))[1]["error"]["code"] == "model_unavailable"
        assert (await client.model("good"))["pid"] == pid


async def test_killed_while_loading_is_started_again_for_the_same_request(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_KILL_DURING_LOAD_TIMES": "2", "FAKE_LOAD_SECONDS": "0.1"}
    async with start({"models": {"m": fake_model(tmp_path, "m", env=env)}}) as client:
        status, _ = await client.chat("m")
        assert status == 200
        assert client.gateway.spawns("m") == 3
        assert len(await client.rows()) == 1


async def test_killed_in_the_middle_of_a_stream_ends_it_with_an_error(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_DIE_AFTER_TOKENS": "3", "FAKE_DIE_TIMES": "1", "FAKE_TOKEN_SECONDS": "0.01"}
    async with start({"models": {"m": fake_model(tmp_path, "m", env=env)}}) as client:
        received = b""
        async with client.stream("m", max_tokens=50) as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                async for chunk in response.content.iter_any():
                    received += chunk
        assert b"[DONE]" not in received
        last = received.strip().rsplit(b"\n\n", 1)[-1]
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "bad_upstream_response"
        (row,) = await client.rows()
        assert row["state"] == "truncated"
        assert (await client.chat("m"))[0] == 200, "the next request has a new process"


async def test_killed_in_the_middle_of_a_body_breaks_the_connection(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_MALFORMED": "short_body"}
    async with start({"models": {"m": fake_model(tmp_path, "m", env=env)}}) as client:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError)):
            await client.chat("m")
        (row,) = await client.rows()
        assert row["state"] == "truncated"


async def test_killed_before_the_first_byte_is_replayed(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_DIE_BEFORE_FIRST_BYTE_TIMES": "2"}
    async with start({"models": {"m": fake_model(tmp_path, "m", env=env)}}) as client:
        assert (await client.chat("m"))[0] == 200
        (row,) = await client.rows()
        assert (row["state"], row["replays"]) == ("ok", 2)
        assert client.gateway.spawns("m") == 3


async def test_request_that_crashes_every_process_fails_alone(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_POISON": "poison", "FAKE_PREFILL_SECONDS": "0.1"}
    async with start({"models": {"m": fake_model(tmp_path, "m", parallel=8, env=env)}}) as client:
        poison = client.chat("m", messages=[{"role": "user", "content": f"poison {PROMPT}"}])
        (status, body), *others = await asyncio.gather(poison, *(client.chat("m") for _ in range(12)))
        assert (status, body["error"]["code"]) == (502, "request_crashed_backend")
        assert [status for status, _ in others] == [200] * 12
        assert client.gateway.spawns() <= 4, "three deaths, and the process that serves the rest"


async def test_one_death_under_many_requests_counts_once(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_DIE_BEFORE_FIRST_BYTE_TIMES": "1", "FAKE_PREFILL_SECONDS": "0.2"}
    async with start({"models": {"m": fake_model(tmp_path, "m", parallel=8, env=env)}}) as client:
        answers = await asyncio.gather(*(client.chat("m") for _ in range(16)))
        assert [status for status, _ in answers] == [200] * 16
        assert client.gateway.spawns("m") == 2


async def test_ignoring_term_is_killed_and_the_swap_goes_on(start: Start, tmp_path: Path) -> None:
    models = {
        "deaf": fake_model(tmp_path, "deaf", env={"FAKE_IGNORE_SIGTERM": "1"}),
        "next": fake_model(tmp_path, "next"),
        "other": fake_model(tmp_path, "other", pinned=True),
    }
    config: dict[str, Table] = {"models": models, "limits": {"models_max": 2}}
    config["engine"] = {"binary": str(FAKE), "stop_timeout": "1s"}
    async with start(config) as client:
        await client.chat("other")
        await client.chat("deaf")
        swap = asyncio.create_task(client.chat("next"))  # noqa: TID251 - a test has no use for tasks.spawn
        await client.state_is("deaf", "stopping")
        for _ in range(5):
            assert (await client.chat("other"))[0] == 200, "others are served while it is being stopped"
        assert not swap.done()
        assert (await swap)[0] == 200
        assert {child.pid for child in client.gateway.children()} == {
            (await client.model(name))["pid"] for name in ("next", "other")
        }


async def test_flood_on_stderr_without_a_newline_disturbs_nobody(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_STDERR_FLOOD_BYTES": str(100 * 1024**2)}
    models = {"loud": fake_model(tmp_path, "loud", env=env), "calm": fake_model(tmp_path, "calm")}
    async with start({"models": models}) as client:
        await client.chat("calm")
        memory = client.gateway.resident()
        assert (await client.chat("loud"))[0] == 200
        for _ in range(20):
            assert (await client.chat("calm"))[0] == 200
        assert client.gateway.resident() - memory < 30 * 1024**2


async def test_socket_taken_at_start_is_tried_again(start: Start, tmp_path: Path) -> None:
    async with start({"models": {"m": fake_model(tmp_path, "m", env={"FAKE_SOCKET_TAKEN": "1"})}}) as client:
        assert (await client.chat("m"))[0] == 200
        assert client.gateway.spawns("m") == 2


async def test_health_that_stays_503_is_a_load_timeout_for_all(start: Start, tmp_path: Path) -> None:
    config: dict[str, Table] = {"models": {"m": fake_model(tmp_path, "m", env={"FAKE_HEALTH_ALWAYS_503": "1"})}}
    config["engine"] = {"binary": str(FAKE), "start_timeout": "500ms"}
    async with start(config) as client:
        answers = await asyncio.gather(*(client.chat("m") for _ in range(5)))
        assert {(status, body["error"]["code"]) for status, body in answers} == {(504, "load_timeout")}
        await until(lambda: not client.gateway.children(), "the process that never became ready is gone")


async def test_crash_when_idle_is_noticed_and_the_next_request_starts_it(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_CRASH_IDLE_SECONDS": "0.3"}
    async with start({"models": {"m": fake_model(tmp_path, "m", env=env)}}) as client:
        assert (await client.chat("m"))[0] == 200
        await client.state_is("m", "stopped")
        assert (await client.chat("m"))[0] == 200
        assert client.gateway.spawns("m") == 2


async def test_herd_on_a_cold_model_starts_one_process(start: Start, tmp_path: Path) -> None:
    env = {"FAKE_LOAD_SECONDS": "1"}
    async with start({"models": {"m": fake_model(tmp_path, "m", parallel=64, env=env)}}) as client:
        answers = await asyncio.gather(*(client.chat("m") for _ in range(500)))
        assert [status for status, _ in answers] == [200] * 500
        assert client.gateway.spawns() == 1


async def test_two_models_in_one_place_alternate_with_few_swaps(start: Start, tmp_path: Path) -> None:
    models = {name: fake_model(tmp_path, name) for name in ("a", "b")}
    limits = {"models_max": 1, "max_wait": "2s", "min_residency": "500ms"}
    async with start({"models": models, "limits": limits}) as client:
        places = asyncio.Semaphore(16)
        waits: list[float] = []

        async def ask(model: str) -> int:
            async with places:
                begun = time.monotonic()
                status, _ = await client.chat(model)
                waits.append(time.monotonic() - begun)
                return status

        statuses = await asyncio.gather(*(ask("ab"[number % 2]) for number in range(500)))
        assert set(statuses) == {200}
        assert client.gateway.spawns() <= 100, "requests for the resident model are served together"
        assert max(waits) < 15


@pytest.mark.parametrize("tokens", [0, 3])
async def test_stopped_process_is_killed_and_the_next_request_works(start: Start, tmp_path: Path, tokens: int) -> None:
    config: dict[str, Table] = {
        "engine": {"binary": str(FAKE), "first_byte_timeout": "3s", "idle_timeout": "1s"},
        "models": {
            "m": fake_model(tmp_path, "m", env={"FAKE_TOKEN_SECONDS": "0.02"}),
            "calm": fake_model(tmp_path, "calm"),
        },
    }
    async with start(config) as client:
        assert (await client.chat("m"))[0] == 200
        pid = (await client.model("m"))["pid"]
        if tokens:
            received = b""
            async with client.stream("m", max_tokens=500) as response:
                for _ in range(tokens):
                    received += await response.content.readline()
                os.kill(pid, signal.SIGSTOP)
                with pytest.raises(aiohttp.ClientPayloadError):
                    received += await response.content.read()
        else:
            os.kill(pid, signal.SIGSTOP)
            status, body = await client.chat("m")
            assert (status, body["error"]["code"]) == (504, "upstream_stalled")
        assert (await client.chat("calm"))[0] == 200, "other models are served meanwhile"
        assert (await client.chat("m", max_tokens=1))[0] == 200
        assert (await client.model("m"))["pid"] != pid


async def test_crashes_in_the_middle_of_answers_open_the_breaker_and_being_killed_does_not(
    start: Start, tmp_path: Path
) -> None:
    config: dict[str, Table] = {
        "breaker": {"request_failures": 3},
        "models": {
            name: fake_model(
                tmp_path,
                name,
                env={"FAKE_DIE_AFTER_TOKENS": "1", "FAKE_TOKEN_SECONDS": "0.01", "FAKE_DIE_SIGNAL": cause},
            )
            for name, cause in (("m", "SEGV"), ("shot", "KILL"))
        },
    }
    async with start(config) as client:
        for name in ("m", "shot"):
            for _ in range(3):
                async with client.stream(name) as response:
                    with pytest.raises(aiohttp.ClientPayloadError):
                        await response.read()
                await client.state_is(name, "stopped")
        status, body = await client.chat("m")
        assert (status, body["error"]["code"]) == (503, "model_unavailable")
        assert (await client.model("shot"))["breaker"]["state"] == "closed"


async def test_client_that_reads_nothing_gives_its_place_back(start: Start, tmp_path: Path) -> None:
    config: dict[str, Table] = {
        "engine": {"binary": str(FAKE), "idle_timeout": "1s"},
        "limits": {"models_max": 1},
        "models": {
            "big": fake_model(tmp_path, "big", env={"FAKE_TOKEN_BYTES": "65536"}),
            "other": fake_model(tmp_path, "other"),
        },
    }
    async with start(config) as client, client.stream("big", max_tokens=2000) as response:
        await response.content.readline()
        assert (await client.chat("other"))[0] == 200
