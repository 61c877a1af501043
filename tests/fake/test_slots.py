"""The fake llama-server's slots: waiting, leaving, caching, saving."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.fake.flags import Flags
from tests.fake.harness import CHAT, Fake, Json, Starter, chat, read_until, until
from tests.fake.slots import Slots


def test_requests_beyond_the_slots_wait(start: Starter) -> None:
    fake = start("-np", "1", "--metrics", TOKEN_SECONDS=0.02).ready()
    with fake.post(CHAT, chat(stream=True, max_tokens=30)) as one:
        read_until(one, b"word2")
        with fake.post(CHAT, chat(stream=True, max_tokens=1)) as two:
            until(lambda: fake.metric("requests_deferred") == 1)
            (slot,) = fake.ask("GET", "/slots").json
            assert slot["is_processing"]
            assert slot["next_token"][0]["n_decoded"] > 0
            assert fake.metric("requests_processing") == 1
            read_until(one, b"[DONE]")
            read_until(two, b"[DONE]")
    # The slot is free a moment after the last byte, as with the real one.
    until(lambda: not fake.ask("GET", "/slots").json[0]["is_processing"])


def test_four_slots_unless_told(start: Starter) -> None:
    fake = start("--metrics", HANG_BEFORE_FIRST_BYTE=1).ready()
    connections = [fake.post(CHAT, chat()) for _ in range(6)]
    try:
        until(lambda: fake.metric("requests_deferred") == 2)
        assert fake.metric("requests_processing") == 4
    finally:
        for connection in connections:
            connection.close()


def test_a_stream_that_is_left_frees_its_slot_at_once(start: Starter) -> None:
    fake = start("-np", "1", TOKEN_SECONDS=0.05).ready()
    with fake.post(CHAT, chat(stream=True, max_tokens=1000), "X-Request-Id: me\r\n") as connection:
        read_until(connection, b"word2")
    began = time.monotonic()
    assert fake.ask("POST", CHAT, chat(max_tokens=1)).status == 200
    assert time.monotonic() - began < 0.5
    assert start.journal("aborted") == [["aborted", str(fake.process.pid), "POST", CHAT, "me"]]


def test_a_waiting_stream_that_is_left_takes_no_slot(start: Starter) -> None:
    fake = start("-np", "1", "--metrics", TOKEN_SECONDS=0.02).ready()
    with fake.post(CHAT, chat(stream=True, max_tokens=20)) as one:
        read_until(one, b"word2")
        with fake.post(CHAT, chat(stream=True, max_tokens=1000)):
            until(lambda: fake.metric("requests_deferred") == 1)
        until(lambda: fake.metric("requests_deferred") == 0)
        read_until(one, b"[DONE]")
    assert fake.ask("POST", CHAT, chat(max_tokens=1)).status == 200


def test_a_unary_answer_that_is_left_frees_its_slot_after_a_second(start: Starter) -> None:
    fake = start("-np", "1", TOKEN_SECONDS=0.05).ready()
    with fake.post(CHAT, chat(max_tokens=1000)):
        until(lambda: fake.ask("GET", "/slots").json[0]["is_processing"])
    began = time.monotonic()
    assert fake.ask("POST", CHAT, chat(max_tokens=1)).status == 200
    assert 0.8 < time.monotonic() - began < 3


def test_a_unary_answer_that_is_left_goes_on_while_others_get_results(start: Starter) -> None:
    fake = start("-np", "2", TOKEN_SECONDS=0.02).ready()
    with fake.post(CHAT, chat(stream=True, max_tokens=75)) as other:
        read_until(other, b"word2")
        with fake.post(CHAT, chat(max_tokens=1000)):
            until(lambda: all(slot["is_processing"] for slot in fake.ask("GET", "/slots").json))
        read_until(other, b"[DONE]")
    assert start.journal("aborted") == []
    until(lambda: start.journal("aborted"))


def test_a_repeated_prompt_is_cached_and_the_first_slot_used_is_the_last(start: Starter) -> None:
    fake = start("-np", "3").ready()
    prompts = [fake.ask("POST", "/completion", {"prompt": "a b c d", "n_predict": 2}).json for _ in range(2)]
    assert [answer["timings"]["cache_n"] for answer in prompts] == [0, 3]
    assert [answer["id_slot"] for answer in prompts] == [2, 2]
    assert fake.ask("POST", "/completion", {"prompt": "other words"}).json["id_slot"] == 1
    assert fake.ask("POST", "/completion", {"prompt": "a b c d", "cache_prompt": False}).json["timings"]["cache_n"] == 0


def saved(fake: Fake, number: int, name: str = "kv.bin") -> int:
    return int(fake.ask("POST", f"/slots/{number}?action=save", {"filename": name}).json["n_saved"])


def test_a_slot_survives_the_process_through_its_file(start: Starter, tmp_path: Path) -> None:
    arguments = ("-np", "1", "--slot-save-path", str(tmp_path))
    body = {"prompt": "one two three four five", "n_predict": 3}
    first = start(*arguments).ready()
    first.ask("POST", "/completion", body)
    assert saved(first, 0) == 5 + 3 - 1
    first.kill()
    second = start(*arguments).ready()
    restored = second.ask("POST", "/slots/0?action=restore", {"filename": "kv.bin"}).json
    assert restored["n_restored"] == 7
    assert second.ask("POST", "/completion", body).json["timings"]["cache_n"] == 4
    assert second.ask("POST", "/slots/0?action=erase").json == {"id_slot": 0, "n_erased": 7}
    assert saved(second, 0) == 0


def test_only_the_slot_used_last_keeps_its_tokens_in_a_unified_cache(start: Starter, tmp_path: Path) -> None:
    fake = start("--slot-save-path", str(tmp_path)).ready()
    for prompt in "a b c d", "x y z":
        fake.ask("POST", "/completion", {"prompt": prompt, "n_predict": 1})
    assert [saved(fake, number) for number in range(4)] == [0, 0, 3, 0]
    # What the other slot held went to the prompt cache, not away.
    assert fake.ask("POST", "/completion", {"prompt": "a b c d"}).json["timings"]["cache_n"] == 3
    kept = start("--slot-save-path", str(tmp_path), "--no-cache-idle-slots").ready()
    for prompt in "a b c d", "x y z":
        kept.ask("POST", "/completion", {"prompt": prompt, "n_predict": 1})
    assert [saved(kept, number) for number in range(4)] == [0, 0, 3, 4]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/slots/0?action=restore", {"filename": "none.bin"}),
        ("/slots/0?action=save", {"filename": "../kv.bin"}),
        ("/slots/0?action=save", {}),
        ("/slots/0?action=what", {"filename": "kv.bin"}),
        ("/slots/x?action=save", {"filename": "kv.bin"}),
    ],
)
def test_slot_actions_that_are_refused(start: Starter, tmp_path: Path, path: str, body: Json) -> None:
    (tmp_path / "kv.bin").write_text("[1]")
    assert start("--slot-save-path", str(tmp_path)).ready().ask("POST", path, body).status == 400


def test_slot_actions_wait_for_a_busy_slot(start: Starter, tmp_path: Path) -> None:
    fake = start("-np", "1", "--slot-save-path", str(tmp_path), TOKEN_SECONDS=0.02, SLOT_SECONDS=0.2).ready()
    with fake.post("/completion", {"prompt": "a", "n_predict": 15, "stream": True}) as stream:
        read_until(stream, b"word2")
        began = time.monotonic()
        assert saved(fake, 0) == 15
        assert time.monotonic() - began > 0.2 + 10 * 0.02


def test_restores_that_deceive(start: Starter, tmp_path: Path) -> None:
    arguments = ("-np", "1", "--slot-save-path", str(tmp_path))
    body = {"prompt": "one two three", "n_predict": 1}
    useless, failing = start(*arguments, RESTORE="useless").ready(), start(*arguments, RESTORE="fail").ready()
    useless.ask("POST", "/completion", body)
    saved(useless, 0)
    assert failing.ask("POST", "/slots/0?action=restore", {"filename": "kv.bin"}).status == 400
    fresh = start(*arguments, RESTORE="useless").ready()
    assert fresh.ask("POST", "/slots/0?action=restore", {"filename": "kv.bin"}).json["n_restored"] == 3
    assert fresh.ask("POST", "/completion", body).json["timings"]["cache_n"] == 0


@pytest.mark.parametrize("granted_first", [True, False])
def test_a_slot_granted_to_one_who_leaves_in_the_same_step_is_not_lost(granted_first: bool) -> None:
    async def leave() -> int:
        slots = Slots(Flags(["-np", "1"]))
        slot = await slots.acquire([])
        waiting = asyncio.get_running_loop().create_task(slots.acquire([]))
        await asyncio.sleep(0)
        if granted_first:
            slots.release(slot)
        waiting.cancel()
        if not granted_first:
            slots.release(slot)
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        return slots.processing + slots.deferred

    assert asyncio.run(leave()) == 0


def test_500_requests_at_once(start: Starter) -> None:
    fake = start().ready()
    body = json.dumps(chat(stream=True, max_tokens=4)).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def one() -> bytes:
        reader, writer = await asyncio.open_unix_connection(fake.path)
        writer.write(head + body)
        answer = await reader.read()
        writer.close()
        return answer

    async def everybody() -> list[bytes]:
        return await asyncio.gather(*(one() for _ in range(500)))

    began = time.monotonic()
    answers = asyncio.run(everybody())
    assert sum(answer.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n") for answer in answers) == 500
    assert time.monotonic() - began < 5
    assert len(start.journal("done")) - sum(line[3] == "/health" for line in start.journal("done")) == 500
