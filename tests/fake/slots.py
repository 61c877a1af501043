"""The slots of the fake engine: who generates now, who waits, and which prompt each slot still has in its cache.

Owns the order of waiting and the slot files. Must not know HTTP or time.
"""

import asyncio
import json
import os
import zlib
from collections import deque
from dataclasses import dataclass, field
from itertools import count, takewhile

from tests.fake.flags import Flags

_SHELF = 64
_SIMILAR_ENOUGH = 0.1  # llama-server's --slot-prompt-similarity


def tokens(words: list[str]) -> list[int]:
    """One token for every word, the same in every process."""
    return [zlib.crc32(word.encode()) % 49152 for word in words]


def common_prefix(one: list[int], other: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@dataclass
class Slot:
    id: int
    cache: list[int] = field(default_factory=list)
    busy: bool = False
    last_used: int = -1
    task: int = -1
    prompt: int = 0
    cached: int = 0
    decoded: int = 0
    remaining: int = -1

    def save(self, path: str) -> int:
        """Returns the bytes written."""
        with open(path, "w") as file:
            return file.write(json.dumps(self.cache))

    def restore(self, path: str) -> int:
        """Returns the bytes read; raises OSError or ValueError for a file that is none of ours."""
        with open(path) as file:
            text = file.read()
        self.cache = [int(token) for token in json.loads(text)]
        return len(text)


def file_in(folder: str, name: str) -> str | None:
    """The path of slot file `name`, or None if it would lie elsewhere."""
    return os.path.join(folder, name) if name and name not in (".", "..") and "/" not in name else None


class Slots:
    def __init__(self, flags: Flags) -> None:
        self.all = [Slot(at) for at in range(flags.slots_number)]
        self._flags = flags
        self._shelf: deque[list[int]] = deque(maxlen=_SHELF if flags.prompt_cache else 0)
        self._waiting: list[tuple[asyncio.Future[Slot], int | None]] = []
        self._tasks = count()

    @property
    def deferred(self) -> int:
        return len(self._waiting)

    @property
    def processing(self) -> int:
        return sum(slot.busy for slot in self.all)

    async def acquire(self, prompt: list[int], wanted: int | None = None) -> Slot:
        """A slot for this prompt, in order of arrival; `wanted` names the only one that will do."""
        free = [slot for slot in self.all if not slot.busy and wanted in (None, slot.id)]
        slot = self._best(free, prompt) if free else await self._wait(wanted)
        slot.busy = True
        return slot

    def begin(self, slot: Slot, prompt: list[int], limit: int, reuse: bool) -> int:
        """Starts a task; returns how many tokens of its prompt need not be evaluated."""
        self._shelve(slot)
        known = [slot.cache, *self._shelf] if reuse else [[]]
        # llama-server evaluates at least one token of every prompt.
        slot.cached = max(0, min(max(common_prefix(one, prompt) for one in known), len(prompt) - 1))
        slot.task = slot.last_used = next(self._tasks)
        slot.prompt, slot.decoded, slot.remaining = len(prompt), 0, limit
        slot.cache = prompt.copy()
        return slot.cached

    def _shelve(self, taken: Slot) -> None:
        """A new task shelves what its slot and the idle ones hold; with a unified cache the idle ones lose it."""
        self._shelf.append(taken.cache)
        for idle in self.all:
            if not idle.busy and idle.cache and self._flags.cache_idle_slots:
                self._shelf.append(idle.cache)
                if self._flags.unified:
                    idle.cache = []

    async def _wait(self, wanted: int | None) -> Slot:
        waiter: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        entry = (waiter, wanted)
        self._waiting.append(entry)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self._waiting.remove(entry)
            else:  # granted and cancelled in the same step of the loop
                self.release(waiter.result())
            raise

    def release(self, slot: Slot) -> None:
        for entry in self._waiting:
            if entry[1] in (None, slot.id) and not entry[0].done():
                self._waiting.remove(entry)
                entry[0].set_result(slot)
                return
        slot.busy = False

    def _best(self, free: list[Slot], prompt: list[int]) -> Slot:
        similar = max(free, key=lambda slot: common_prefix(slot.cache, prompt))
        if common_prefix(similar.cache, prompt) > _SIMILAR_ENOUGH * len(prompt):
            return similar
        # Of slots never used llama-server takes the last, so slot 0 of a quiet server is empty.
        return min(free, key=lambda slot: (slot.last_used, -slot.id))
