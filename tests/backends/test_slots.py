"""llamaproxy.backends.slots: what is saved and restored, within which bounds, and when it is given up."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.backends.command import Address
from llamaproxy.backends.orphans import RunDirectory
from llamaproxy.backends.slot_files import SlotFiles
from llamaproxy.backends.slots import Carry, Counts
from llamaproxy.backends.spawn import Spawn
from llamaproxy.backends.upstream import Upstream
from llamaproxy.config import EngineConfig, KvConfig
from llamaproxy.core.events import BackendExited, BackendReady
from llamaproxy.tasks import spawn
from tests.backends.engines import fake_command
from tests.backends.processes import PATIENCE, until, within

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(60)]

KEY = f"{'a' * 16}-{'0' * 16}"
BEES = "bees " * 300
WASPS = "wasps " * 200


class House:
    """A store on the disk, and engines that come and go."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "kv"
        self.files = SlotFiles(self.path, limit=10**6)
        (folder / "state").mkdir()
        self._state = folder / "state"
        self._run = RunDirectory(folder / "run")
        self._spawned = 0
        self.counts = Counts()

    def carry(self, **settings: Any) -> Carry:
        return Carry("qwen", KEY, self.files, KvConfig(**settings), self.counts)

    def saved(self) -> list[int]:
        """Tokens in each file, by its rank: the fake engine writes a list of them."""
        return [len(json.loads(file.path.read_text())) for file in self.files.saved(KEY)]

    def everything(self) -> list[str]:
        return sorted(path.name for path in self.path.rglob("*") if path.is_file())

    @asynccontextmanager
    async def engine(self, environment: Mapping[str, str] | None = None, *args: str) -> AsyncIterator[Upstream]:
        self._spawned += 1
        address = Address(socket=self._run.socket("qwen", self._spawned))
        kept = ("--slot-save-path", str(self.files.folder(KEY)), "--no-cache-idle-slots", *args)
        command = fake_command(address, self._state, "qwen", environment, *kept)
        life = Spawn("qwen", self._spawned, address, command, EngineConfig(), self._run)
        ready = asyncio.Event()

        def report(event: BackendReady | BackendExited) -> None:
            ready.set()

        running = spawn(life.run(report), name="run")
        try:
            await asyncio.wait_for(ready.wait(), PATIENCE)
            yield life.upstream
        finally:
            await life.kill()
            await asyncio.wait_for(running, PATIENCE)

    def close(self) -> None:
        self._run.close()


@pytest.fixture
def house(short_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[House]:
    caplog.set_level(logging.INFO)
    house = House(short_path)
    yield house
    house.close()


def body(prompt: str) -> bytes:
    return json.dumps({"prompt": prompt, "n_predict": 1}).encode()


async def post(upstream: Upstream, prompt: str) -> bytes:
    status, answer = await upstream.ask("POST", "/completion", body(prompt))
    assert status == 200
    return answer


async def cached(upstream: Upstream, prompt: str) -> int:
    return int(json.loads(await post(upstream, prompt))["timings"]["cache_n"])


async def serve(carry: Carry, upstream: Upstream, prompt: str) -> bool:
    """One request as the data plane has it; whether its answer tells of a restore."""
    share = carry.begin(body(prompt))
    timings = json.loads(await post(upstream, prompt))["timings"]
    carry.served(body(prompt), share, timings["cache_n"] + timings["prompt_n"], timings["cache_n"])
    return share > 0


async def swap(house: House, carry: Carry, environment: Mapping[str, str] | None = None, *prompts: str) -> list[bool]:
    """One whole life of an engine: restore, serve, save."""
    async with house.engine(environment) as upstream:
        await carry.restore(upstream)
        looked_at = [await serve(carry, upstream, prompt) for prompt in prompts]
        await carry.save(upstream)
    carry.process_gone()
    return looked_at


class TestSaveAndRestore:
    async def test_every_slot_that_holds_something_comes_back(self, house: House) -> None:
        carry = house.carry()
        await swap(house, carry, None, BEES, WASPS)
        assert carry.saved_tokens == 500
        async with house.engine() as upstream:
            await carry.restore(upstream)
            assert carry.restored_tokens == 500
            assert await cached(upstream, WASPS) == 199
            assert await cached(upstream, BEES) == 299

    async def test_what_was_saved_restored_and_reused_is_counted(self, house: House) -> None:
        carry = house.carry()
        for _ in range(2):
            await swap(house, carry, None, BEES)
        assert house.counts.restored_tokens == 300
        assert house.counts.reused_tokens == 299
        assert house.counts.saved_bytes > 0

    async def test_the_slot_used_last_is_the_first_to_be_saved(self, house: House) -> None:
        await swap(house, house.carry(), None, BEES, WASPS)
        assert house.saved() == [200, 300]

    async def test_a_slot_that_was_restored_and_not_used_is_saved_again(self, house: House) -> None:
        carry = house.carry()
        await swap(house, carry, None, BEES, WASPS)
        await swap(house, carry, None, WASPS)
        assert house.saved() == [200, 300]

    async def test_a_new_conversation_takes_no_slot_that_was_restored(self, house: House) -> None:
        carry = house.carry()
        await swap(house, carry, None, BEES, WASPS)
        async with house.engine(None, "--cache-ram", "0") as upstream:
            await carry.restore(upstream)
            await post(upstream, "hornets " * 100)
            assert await cached(upstream, WASPS) == 199
            assert await cached(upstream, BEES) == 299

    async def test_of_more_files_than_slots_the_newest_are_restored(self, house: House) -> None:
        carry = house.carry()
        await swap(house, carry, None, BEES, WASPS)
        async with house.engine(None, "-np", "1") as upstream:
            await carry.restore(upstream)
            assert carry.restored_tokens == 200

    async def test_where_nothing_was_used_what_is_there_stays(self, house: House) -> None:
        await swap(house, house.carry(), None, BEES)
        async with house.engine() as upstream:
            await house.carry().save(upstream)
        assert house.saved() == [300]

    async def test_only_files_of_whole_slots_are_left(self, house: House) -> None:
        carry = house.carry()
        for _ in range(2):
            await swap(house, carry, None, BEES, WASPS)
        await until(lambda: len(house.everything()) == 2)
        assert all(name.endswith(".kv") for name in house.everything())

    async def test_a_slot_at_work_is_left_out_and_not_waited_for(self, house: House) -> None:
        carry = house.carry()
        async with house.engine({"FAKE_TOKEN_SECONDS": "0.05"}) as upstream:
            await post(upstream, BEES)
            busy = json.dumps({"prompt": WASPS, "n_predict": 1000, "stream": True}).encode()
            async with upstream.exchange("POST", "/completion", b"", busy) as response:
                await response.begin()
                await within(5, carry.save(upstream))
        assert house.saved() == [300]


class TestBounds:
    async def test_a_save_that_takes_too_long_is_over_in_time(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        carry = house.carry(save_timeout=0.3)
        async with house.engine({"FAKE_SLOT_SECONDS": "60"}) as upstream:
            await post(upstream, BEES)
            await within(5, carry.save(upstream))
        assert "not within 0.3 s" in caplog.text
        assert house.saved() == []

    async def test_what_was_saved_in_time_is_kept(self, house: House) -> None:
        carry = house.carry(save_timeout=1.6)
        async with house.engine({"FAKE_SLOT_SECONDS": "1"}) as upstream:
            for prompt in (BEES, WASPS):
                await post(upstream, prompt)
            await carry.save(upstream)
        carry.process_gone()
        assert house.saved() == [200]
        await until(lambda: len(house.everything()) == 1)

    async def test_so_is_a_restore(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        carry = house.carry(restore_timeout=0.3)
        await swap(house, carry, None, BEES)
        async with house.engine({"FAKE_SLOT_SECONDS": "60"}) as upstream:
            await within(5, carry.restore(upstream))
        assert "slots were not restored: not within 0.3 s" in caplog.text

    async def test_a_disk_that_is_nearly_full_is_left_alone(
        self, house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(house.files, "has_room", lambda _: False)
        await swap(house, house.carry(), None, BEES)
        assert "too little room" in caplog.text
        assert house.everything() == []

    async def test_a_directory_that_has_gone_costs_a_line_in_the_log(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        carry = house.carry()
        async with house.engine() as upstream:
            await post(upstream, BEES)
            (house.path / KEY).rmdir()
            (house.path / KEY).write_text("in the way")
            await carry.save(upstream)
        assert "slots were not all saved" in caplog.text

    async def test_an_engine_that_has_gone_does_too(self, house: House, caplog: pytest.LogCaptureFixture) -> None:
        carry = house.carry()
        async with house.engine() as upstream:
            pass
        await carry.save(upstream)
        assert "slots were not all saved" in caplog.text


class TestVerdict:
    async def test_a_returning_conversation_is_looked_at_and_once_is_enough(self, house: House) -> None:
        carry = house.carry()
        assert await swap(house, carry, None, BEES) == [False]
        assert await swap(house, carry, None, BEES + "more", BEES + "more") == [True, False]
        assert carry.off is None

    async def test_after_two_restores_in_vain_there_are_no_more(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        carry = house.carry()
        for _ in range(3):
            assert carry.off is None
            await swap(house, carry, {"FAKE_RESTORE": "useless"}, BEES)
        assert carry.off == "of 300 restored tokens 0 were reused"
        assert caplog.text.count("no longer carried over") == 1
        await until(lambda: house.everything() == ["off"])
        assert house.carry().off == carry.off

    async def test_one_that_was_of_use_makes_up_for_one_that_was_not(self, house: House) -> None:
        carry = house.carry()
        for environment in (None, {"FAKE_RESTORE": "useless"}, None, {"FAKE_RESTORE": "useless"}):
            await swap(house, carry, environment, BEES)
        assert carry.off is None

    async def test_a_new_conversation_says_nothing(self, house: House) -> None:
        carry = house.carry()
        await swap(house, carry, None, BEES)
        assert await swap(house, carry, {"FAKE_RESTORE": "useless"}, WASPS) == [False]

    async def test_nor_does_a_returning_one_that_comes_second(self, house: House) -> None:
        """The other one may have taken its slot."""
        carry = house.carry()
        await swap(house, carry, None, BEES)
        assert await swap(house, carry, {"FAKE_RESTORE": "useless"}, WASPS, BEES) == [False, False]

    async def test_nor_one_whose_slot_a_later_request_may_have_taken_and_left(self, house: House) -> None:
        carry = house.carry()
        async with house.engine() as upstream:
            await serve(carry, upstream, BEES)
            carry.begin(body(WASPS))  # its client leaves
            await carry.save(upstream)
        assert await swap(house, carry, {"FAKE_RESTORE": "useless"}, BEES) == [False]

    async def test_nor_do_the_slots_of_another_gateway(self, house: House) -> None:
        ours, other = house.carry(), house.carry()
        await swap(house, ours, None, BEES)
        await swap(house, other, None, WASPS)
        assert await swap(house, ours, None, BEES) == [False]

    async def test_restores_that_fail_are_in_vain_and_no_file_is_tried_twice(
        self, house: House, caplog: pytest.LogCaptureFixture
    ) -> None:
        carry = house.carry()
        for _ in range(2):
            await swap(house, carry, None, BEES)
            async with house.engine({"FAKE_RESTORE": "fail"}) as upstream:
                await carry.restore(upstream)
                assert await cached(upstream, BEES) == 0
            await until(lambda: not house.files.saved(KEY))
        failed = "slots were not restored: the engine answered 400"
        assert sum(message.startswith(f"qwen: {failed}") for message in caplog.messages) == 2
        assert carry.off
        assert carry.off.startswith(failed)

    async def test_files_that_another_gateway_has_replaced_are_nobodys_fault(
        self, house: House, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        carry = house.carry()
        for _ in range(3):
            await swap(house, carry, None, BEES)
            listed = house.files.saved(KEY)
            for file in listed:
                file.path.unlink()
            with monkeypatch.context() as patch:
                patch.setattr(house.files, "saved", lambda _, listed=listed: listed)
                await swap(house, carry)
        assert carry.off is None

    async def test_an_engine_that_cannot_save_is_not_asked_again(self, house: House) -> None:
        carry = house.carry()
        async with house.engine(None, "--slot-save-path", "") as upstream:
            await post(upstream, BEES)
            await carry.save(upstream)
        assert carry.off == "the engine cannot save slots of this model"
