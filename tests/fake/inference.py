"""One generation of the fake engine, from waiting for a slot to the last byte, with the faults on the way.

Owns the pace of the tokens and the event stream. Must not know which API it answers for: that is the dialect's.
"""

import asyncio
import os
import time

from tests.fake.answers import Answer, Dialect, Json, Refused, compact, wanted_tokens
from tests.fake.faults import Faults, Process
from tests.fake.flags import Flags
from tests.fake.pages import Counts
from tests.fake.slots import Slot, Slots, tokens
from tests.fake.wire import JSON, Reply, Request


class Shared:
    """What the generations of one process have in common."""

    def __init__(self, flags: Flags, faults: Faults, process: Process, slots: Slots, counts: Counts) -> None:
        self.flags, self.faults, self.process, self.slots, self.counts = flags, faults, process, slots, counts
        self.result_at = asyncio.get_running_loop().time()
        self.silent = False

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if self.silent:
            await asyncio.Event().wait()


class Inference:
    def __init__(self, shared: Shared, request: Request, reply: Reply, dialect: Dialect, body: Json) -> None:
        self._shared, self._faults = shared, shared.faults
        self._request, self._reply, self._dialect, self._body = request, reply, dialect, body
        self._prompt = self._fitting(dialect.prompt(body))
        self._stream = Stream(reply, shared) if body.get("stream") is True else None

    @property
    def streams(self) -> bool:
        return self._stream is not None

    def _fitting(self, words: list[str]) -> list[int]:
        context = self._shared.flags.slot_context
        if len(words) >= context:
            message = f"request ({len(words)} tokens) exceeds the available context size ({context} tokens)"
            counts = {"n_prompt_tokens": len(words), "n_ctx": context}
            raise Refused(400, "exceed_context_size_error", f"{message}, try increasing it", **counts)
        return tokens(words)

    async def run(self) -> None:
        wanted = self._body.get("id_slot")
        number = len(self._shared.slots.all)
        try:
            slot = await self._shared.slots.acquire(
                self._prompt, wanted % number if isinstance(wanted, int) and wanted >= 0 else None
            )
            try:
                await self._generate(slot)
            finally:
                self._shared.slots.release(slot)
        finally:
            if self._stream:
                self._stream.stop()

    async def _generate(self, slot: Slot) -> None:
        answer = self._begin(slot)
        await self._prefill(answer)
        if self._faults.strikes("MALFORMED"):
            await self._reply.malformed(self._faults.text("MALFORMED"))
            return
        start = time.perf_counter()
        for _ in range(answer.limit):
            self._next_word(answer, slot)
            answer.seconds = time.perf_counter() - start
            await self._emit(answer)
            await self._after_token(len(answer.words))
        self._end(answer, slot)
        await self._deliver(answer)

    def _begin(self, slot: Slot) -> Answer:
        flags, prompt = self._shared.flags, self._prompt
        limit = min(wanted_tokens(self._body) or 8, flags.slot_context - len(prompt))
        cached = self._shared.slots.begin(slot, prompt, limit, self._body.get("cache_prompt") is not False)
        self._shared.process.log(f"I slot launch_slot_: id  {slot.id} | task {slot.task} | processing task")
        return Answer(flags.served_as, self._body, len(prompt), cached, limit, slot.id)

    async def _prefill(self, answer: Answer) -> None:
        start = time.perf_counter()
        await self._shared.pause(self._faults.number("PREFILL_SECONDS"))
        answer.prompt_seconds = time.perf_counter() - start
        self._faults.before_first_byte(self._shared.process, self._request.body)
        if self._faults.strikes("HANG_BEFORE_FIRST_BYTE"):
            await self._hang()

    def _next_word(self, answer: Answer, slot: Slot) -> None:
        at = len(answer.words)
        word = f" word{at + 1}" if at else f"{self._shared.flags.name}:{os.getpid()}"
        answer.words.append(word.ljust(int(self._faults.number("TOKEN_BYTES")), "x"))
        slot.decoded, slot.remaining = at + 1, answer.limit - at - 1

    async def _emit(self, answer: Answer) -> None:
        if self._stream:
            opening = self._dialect.opening(answer) if len(answer.words) == 1 else b""
            await self._stream.write(opening + self._dialect.token(answer))

    async def _after_token(self, done: int) -> None:
        if self._faults.dies_after(done):
            self._shared.process.die(self._faults.die_signal)
        if self._faults.hangs_after(done):
            await self._hang()
        await self._shared.pause(self._faults.number("TOKEN_SECONDS"))

    def _end(self, answer: Answer, slot: Slot) -> None:
        # The last word was never fed back, so it is not in the cache.
        slot.cache = self._prompt + tokens([word.strip() for word in answer.words[:-1]])
        self._shared.counts.add(answer)
        label = f"id  {slot.id} | task {slot.task}"
        self._shared.process.log(
            f"I slot print_timing: {label} | prompt eval time = {answer.prompt_seconds * 1e3:10.2f} ms",
            f"I slot print_timing: {label} |        eval time = {answer.seconds * 1e3:10.2f} ms",
            f"I slot      release: {label} | stop processing: n_tokens = {len(slot.cache)}, truncated = 0",
        )

    async def _deliver(self, answer: Answer) -> None:
        if self._stream:
            await self._stream.end(self._dialect.closing(answer))
        else:
            self._shared.result_at = asyncio.get_running_loop().time()
            await self._reply.send(200, compact(self._dialect.unary(answer)).encode(), JSON)

    async def _hang(self) -> None:
        if self._stream:
            self._stream.stop()
        await asyncio.Event().wait()


class Stream:
    """An event stream that comments keep alive while there is nothing to send."""

    def __init__(self, reply: Reply, shared: Shared) -> None:
        self._reply, self._shared = reply, shared
        self._interval = shared.flags.ping_seconds
        self._loop = asyncio.get_running_loop()
        self._written_at = self._loop.time()
        self._timer = self._loop.call_later(self._interval, self._tick) if self._interval > 0 else None

    def stop(self) -> None:
        if self._timer:
            self._timer.cancel()

    async def write(self, data: bytes) -> None:
        self._written_at = self._shared.result_at = self._loop.time()
        await self._reply.stream(data)

    async def end(self, data: bytes) -> None:
        self.stop()
        self._shared.result_at = self._loop.time()
        await self._reply.end_stream(data)

    def _tick(self) -> None:
        now = self._loop.time()
        if now - self._written_at >= self._interval:
            self._reply.ping(give_up=self._shared.silent)
            self._written_at = now
        self._timer = self._loop.call_at(self._written_at + self._interval, self._tick)
