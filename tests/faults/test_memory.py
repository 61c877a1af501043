"""Backends that die for want of memory: told as such, learned from, and tried once more beside fewer neighbours."""

from pathlib import Path

from tests.faults.conftest import Start
from tests.gateway import Client, Table, fake_model


def models(folder: Path, **env: str) -> dict[str, Table]:
    return {"big": fake_model(folder, "big", env=env), "small": fake_model(folder, "small")}


async def assert_out_of_memory(client: Client) -> None:
    status, body = await client.chat("big")
    assert (status, body["error"]["code"]) == (503, "model_out_of_memory")
    assert "failed to allocate buffer" in body["error"]["message"], "the reason is the engine's own"
    assert "failed to load model" in body["error"]["detail"]


async def test_idle_neighbour_makes_room_for_one_more_try(start: Start, tmp_path: Path) -> None:
    config: dict[str, Table] = {"models": models(tmp_path, FAKE_OOM_TIMES="1"), "breaker": {"start_failures": 1}}
    async with start(config) as client:
        await client.chat("small")
        status, _ = await client.chat("big")
        assert status == 200
        assert client.gateway.spawns("big") == 2
        assert (await client.model("small"))["state"] == "stopped"
        assert (await client.model("big"))["breaker"] == {"state": "closed", "reason": ""}
        assert (await client.chat("small"))[0] == 200


async def test_second_death_is_the_answer(start: Start, tmp_path: Path) -> None:
    async with start({"models": models(tmp_path, FAKE_OOM="1")}) as client:
        await client.chat("small")
        await assert_out_of_memory(client)
        assert client.gateway.spawns("big") == 2
        assert (await client.chat("small"))[0] == 200


async def test_alone_there_is_nothing_to_try_again_for(start: Start, tmp_path: Path) -> None:
    async with start({"models": models(tmp_path, FAKE_OOM="1")}) as client:
        await assert_out_of_memory(client)
        assert client.gateway.spawns("big") == 1
        assert (await client.chat("small"))[0] == 200


async def test_busy_neighbour_is_not_cut_for_it(start: Start, tmp_path: Path) -> None:
    """The second try waits until the neighbour has ended what it does."""
    big = fake_model(tmp_path, "big", env={"FAKE_OOM_TIMES": "1"})
    small = fake_model(tmp_path, "small", env={"FAKE_TOKEN_SECONDS": "0.02"})
    limits = {"max_wait": "200ms", "min_residency": "200ms"}
    async with start({"models": {"big": big, "small": small}, "limits": limits}) as client:
        async with client.stream("small", max_tokens=40) as response:
            await response.content.readline()
            assert (await client.chat("big"))[0] == 200
            assert b"[DONE]" in await response.read()
        assert client.gateway.spawns("big") == 2
