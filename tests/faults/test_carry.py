"""Conversations over a swap: carried where that works, and given up where it does not, without costing a request."""

import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.conftest import Start
from tests.gateway import Client, GatewayProcess, Table, fake_model, until

TURN = "the quick brown fox jumps over the lazy dog and runs on " * 40


def swapping(folder: Path, env: dict[str, str] | None = None, **kv: Any) -> dict[str, Table]:
    """Two models, of which one fits; what is said of the environment is the first one's."""
    models = {"a": fake_model(folder, "a", env=env or {}), "b": fake_model(folder, "b")}
    return {"models": models, "limits": {"models_max": 1}, "kv": kv}


async def talk(client: Client, model: str = "a", *turns: str, **body: Any) -> dict[str, int]:
    """One more turn of a conversation; returns the timings of the answer."""
    messages = [{"role": "user", "content": turn} for turn in (TURN, *turns)]
    status, answer = await client.chat(model, messages=messages, max_tokens=2, **body)
    assert status == 200, answer
    timings: dict[str, int] = answer["timings"]
    return timings


async def swap(client: Client, model: str = "b") -> None:
    assert (await client.chat(model, max_tokens=1))[0] == 200


def files(folder: Path, pattern: str = "*.kv") -> list[Path]:
    return list((folder / "cache").rglob(pattern))


async def test_a_conversation_survives_a_swap(start: Start, tmp_path: Path) -> None:
    async with start(swapping(tmp_path)) as client:
        prompt = (await talk(client))["prompt_n"]
        await swap(client)
        assert (await talk(client, "a", "and then?"))["cache_n"] >= 0.95 * prompt
        kv = (await client.model("a"))["kv"]
        assert (kv["carry"], kv["reason"]) == (True, None)
        assert kv["saved_tokens"] == kv["restored_tokens"] >= prompt


async def test_so_does_each_of_several(start: Start, tmp_path: Path) -> None:
    async with start(swapping(tmp_path)) as client:
        prompts = [f"{word} " * 300 for word in ("one", "two", "three")]
        for prompt in prompts:
            await client.chat("a", messages=[{"role": "user", "content": prompt}], max_tokens=1)
        await swap(client)
        for prompt in prompts:
            _, answer = await client.chat("a", messages=[{"role": "user", "content": prompt}], max_tokens=1)
            assert answer["timings"]["cache_n"] >= 290


async def test_it_survives_the_gateway_too(start: Start, tmp_path: Path) -> None:
    config = swapping(tmp_path)
    async with start(config) as client:
        await talk(client)
    async with start(config) as client:
        assert (await talk(client))["cache_n"] > 400


async def test_switched_off_there_is_none_of_it(start: Start, tmp_path: Path) -> None:
    config = swapping(tmp_path, carry=False)
    async with start(config) as client:
        await talk(client)
        await swap(client)
        assert (await talk(client))["cache_n"] == 0
        assert (await client.model("a"))["kv"]["reason"] == "switched off in the configuration"
    assert not (tmp_path / "cache").exists()


async def test_an_engine_that_hangs_over_a_save_delays_the_swap_by_its_bound(start: Start, tmp_path: Path) -> None:
    async with start(swapping(tmp_path, {"FAKE_SLOT_SECONDS": "60"}, save_timeout="300ms")) as client:
        await talk(client)
        await swap(client)
        assert "a: slots were not all saved: not within 0.3 s" in client.gateway.log
        assert (await talk(client))["cache_n"] == 0
        assert (await client.model("a"))["kv"]["saved_tokens"] == 0
    assert files(tmp_path, "*.part") == []


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_restores_that_gain_nothing_are_given_up_after_two(start: Start, tmp_path: Path, stream: bool) -> None:
    config = swapping(tmp_path, {"FAKE_RESTORE": "useless"})
    async with start(config) as client:
        for _ in range(3):
            assert (await client.model("a"))["kv"]["carry"]
            if stream:
                messages = [{"role": "user", "content": TURN}]
                async with client.stream("a", messages=messages, max_tokens=2) as response:
                    assert b"[DONE]" in await response.read()
            else:
                await talk(client)
            await swap(client)
        kv = (await client.model("a"))["kv"]
        assert not kv["carry"]
        assert "0 were reused" in kv["reason"]
        assert client.gateway.log.count("no longer carried over") == 1
        await until(lambda: len(files(tmp_path)) == 1, "only the other model's file is left")
    # Another life of the gateway does not try again.
    async with start(config) as client:
        await talk(client)
        assert (await client.model("a"))["kv"] == kv | {"saved_tokens": 0, "restored_tokens": 0}
    assert len(files(tmp_path)) == 1


async def test_restores_that_fail_are_a_line_in_the_log(start: Start, tmp_path: Path) -> None:
    async with start(swapping(tmp_path, {"FAKE_RESTORE": "fail"})) as client:
        for _ in range(2):
            await talk(client)
            await swap(client)
        await talk(client)
        assert client.gateway.log.count(" a: slots were not restored: the engine answered 400") == 2
        assert not (await client.model("a"))["kv"]["carry"]


async def test_a_directory_that_cannot_be_used_is_told_once(start: Start, tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    async with start(swapping(tmp_path, directory=str(tmp_path / "in-the-way" / "kv"))) as client:
        for _ in range(2):
            await talk(client)
            await swap(client)
        assert client.gateway.log.count("cannot be used") == 1
        assert "in-the-way" in (await client.model("a"))["kv"]["reason"]


async def test_the_disk_is_bounded_and_what_is_oldest_goes(start: Start, tmp_path: Path) -> None:
    async with start(swapping(tmp_path, cache_bytes=6_000)) as client:
        await talk(client, "a")
        await talk(client, "b")
        [first] = files(tmp_path)
        assert (await talk(client, "a"))["cache_n"] == 0
        [second] = files(tmp_path)
        assert second.parent != first.parent


async def test_an_engine_that_died_is_not_asked_and_what_was_saved_before_is_of_use(
    start: Start, tmp_path: Path
) -> None:
    async with start(swapping(tmp_path)) as client:
        await talk(client)
        await swap(client)
        await talk(client)
        saves = client.gateway.log.count("tokens of KV saved")
        client.gateway.children()[0].send_signal(signal.SIGKILL)
        await client.state_is("a", "stopped")
        assert client.gateway.log.count("tokens of KV saved") == saves
        assert (await talk(client))["cache_n"] > 400


async def test_at_a_hurried_end_nothing_is_saved(start: Start, tmp_path: Path) -> None:
    gateway = GatewayProcess(tmp_path, swapping(tmp_path, {"FAKE_SLOT_SECONDS": "60"}, save_timeout="1m"))
    async with gateway.running(), aiohttp.ClientSession() as session:
        await talk(Client(gateway, session))
        gateway.signal(signal.SIGTERM)
        await until(lambda: "stopping (shutdown)" in gateway.log, "the save begins")
        gateway.signal(signal.SIGTERM)
        await gateway.wait()
        assert "Traceback" not in gateway.log
    assert files(tmp_path, "*.*") == []
