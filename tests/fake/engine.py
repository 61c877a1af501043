"""The fake engine: what all requests share, the routes, and the slot actions.

Owns the slots and the counters. One generation is in `inference.py`, what is answered at once in `pages.py`.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator

from tests.fake import answers
from tests.fake.answers import Dialect, Json, Refused, compact
from tests.fake.faults import Faults, Process
from tests.fake.flags import Flags
from tests.fake.inference import Inference, Shared
from tests.fake.pages import Pages, json_body, need
from tests.fake.slots import Slot, Slots, file_in
from tests.fake.wire import JSON, Link, Reply, Request

_DIALECTS: dict[str, Dialect] = {
    "/v1/chat/completions": answers.Chat(),
    "/chat/completions": answers.Chat(),
    "/v1/completions": answers.Text(),
    "/completion": answers.Native(),
    "/completions": answers.Native(),
    "/v1/messages": answers.Messages(),
    "/v1/responses": answers.Responses(),
    "/responses": answers.Responses(),
}


class Engine:
    def __init__(self, flags: Flags, faults: Faults, process: Process) -> None:
        self._flags, self._faults = flags, faults
        self._loop = asyncio.get_running_loop()
        self._started = int(process.started * 1e6)
        self._slots = Slots(flags)
        self._pages = Pages(flags, self._slots)
        self._shared = Shared(flags, faults, process, self._slots, self._pages.counts)

    def silence(self) -> None:
        """After SIGTERM nothing more is generated, and nobody is told."""
        self._shared.silent = True

    async def answer(self, link: Link, request: Request, reply: Reply) -> None:
        path, post = request.path, request.method == "POST"
        if post and path in _DIALECTS:
            await self._infer(link, request, reply, _DIALECTS[path])
        elif post and path.startswith("/slots/"):
            with self._cancelled_by_departure(link, at_once=False):
                body = await self._slot_action(path.removeprefix("/slots/"), request)
            await self._send(reply, body)
        elif path == "/metrics":
            self._shared.result_at = self._loop.time()
            started = f"Process-Start-Time-Unix: {self._started}"
            await reply.send(200, self._pages.metrics(), "text/plain; version=0.0.4", started)
        else:
            await self._send(reply, self._page(request))

    async def _send(self, reply: Reply, body: object) -> None:
        await reply.send(200, compact(body).encode(), JSON)

    def _page(self, request: Request) -> object:
        if request.path == "/slots":
            # To llama-server this is a result like a token: whoever polls it faster than once a second keeps
            # abandoned answers alive.
            self._shared.result_at = self._loop.time()
        return self._pages.page(request)

    async def _infer(self, link: Link, request: Request, reply: Reply, dialect: Dialect) -> None:
        if self._faults.strikes("INFERENCE_500"):
            raise Refused(500, "server_error", "the fake engine was told to fail")
        inference = Inference(self._shared, request, reply, dialect, json_body(request))
        with self._cancelled_by_departure(link, at_once=inference.streams):
            await inference.run()

    @contextlib.contextmanager
    def _cancelled_by_departure(self, link: Link, at_once: bool) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None

        def lost() -> None:
            if at_once:
                task.cancel()
            else:
                self._abandon(task, self._loop.time())

        link.on_lost = lost
        if link.lost:
            lost()
        try:
            yield
        finally:
            link.on_lost = None

    def _abandon(self, task: asyncio.Task[object], since: float) -> None:
        """Cancels an answer that nobody waits for, but as late as llama-server: after 1 s without any result."""
        quiet = self._loop.time() - max(self._shared.result_at, since)
        if task.done():
            return
        if quiet >= 1:
            task.cancel()
        else:
            self._loop.call_later(1 - quiet, self._abandon, task, since)

    async def _slot_action(self, number: str, request: Request) -> Json:
        need(self._flags.slot_save_path, "slots action", "--slot-save-path")
        action = request.query.get("action")
        if not number.isdigit():
            raise Refused(400, "invalid_request_error", "Invalid slot ID")
        if action not in ("save", "restore", "erase"):
            raise Refused(400, "invalid_request_error", "Invalid action")
        path = self._slot_file(request) if action != "erase" else ""
        slot = await self._slots.acquire([], int(number) % len(self._slots.all))
        try:
            await asyncio.sleep(self._faults.number("SLOT_SECONDS"))
            return {"id_slot": slot.id, **self._act(action, slot, path)}
        finally:
            self._slots.release(slot)

    def _slot_file(self, request: Request) -> str:
        name = json_body(request).get("filename")
        if not isinstance(name, str):
            raise Refused(400, "invalid_request_error", "[json.exception.out_of_range.403] key 'filename' not found")
        path = file_in(self._flags.slot_save_path or "", name)
        if path is None:
            raise Refused(400, "invalid_request_error", "Invalid filename")
        return path

    def _act(self, action: str, slot: Slot, path: str) -> Json:
        name = os.path.basename(path)
        if action == "erase":
            erased, slot.cache = len(slot.cache), []
            return {"n_erased": erased}
        if action == "save":
            written = slot.save(path)
            return {"filename": name, "n_saved": len(slot.cache), "n_written": written, "timings": {"save_ms": 0.1}}
        read = self._restore(slot, path)
        restored = len(slot.cache)
        if self._faults.text("RESTORE") == "useless":
            slot.cache = []
        return {"filename": name, "n_restored": restored, "n_read": read, "timings": {"restore_ms": 0.1}}

    def _restore(self, slot: Slot, path: str) -> int:
        try:
            if self._faults.text("RESTORE") == "fail":
                raise ValueError
            return slot.restore(path)
        except (OSError, ValueError) as error:
            message = "Unable to restore slot: No available space in KV cache or invalid slot save file"
            raise Refused(400, "invalid_request_error", message) from error
