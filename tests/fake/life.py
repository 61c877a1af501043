"""The life of the fake llama-server from its open socket to its end, and the way of a request through it.

Owns the event loop, the signals, the death with the parent, and who is let in. Must not know what an answer is made of.
"""

import asyncio
import ctypes
import hashlib
import hmac
import os
import signal
import socket
import sys
import threading
import time

from tests.fake.answers import Refused, compact
from tests.fake.engine import Engine
from tests.fake.faults import Faults, Process
from tests.fake.flags import Flags
from tests.fake.wire import JSON, BadRequest, Link, Reply, Request


def serve(flags: Flags, faults: Faults, process: Process, listener: socket.socket) -> None:
    async def forever() -> None:
        server = Server(flags, faults, process)
        await server.listen(listener)
        await asyncio.Event().wait()

    asyncio.run(forever())


class Server:
    """Accepts connections, lives and dies."""

    def __init__(self, flags: Flags, faults: Faults, process: Process) -> None:
        self._flags, self._faults, self._process = flags, faults, process
        self._engine = Engine(flags, faults, process)
        self._loop = asyncio.get_running_loop()
        self._listening: asyncio.Server | None = None
        self._loaded = self._terminating = False
        self._in_flight = 0

    async def listen(self, listener: socket.socket) -> None:
        def connect() -> Link:
            return Link(self._converse, self._faults.on("CLOSE_REUSED"))

        # For Unix sockets, too: create_unix_server would remove the path at the end, and llama-server does not.
        self._listening = await self._loop.create_server(connect, sock=listener, backlog=1024)
        load = self._faults.number("LOAD_SECONDS", 0.05)
        left = max(0.0, self._process.started + load - time.monotonic())
        self._loop.call_later(left / 2, self._faults.in_load, self._process)
        if not self._faults.on("HEALTH_ALWAYS_503"):
            self._loop.call_later(left, self._load)
        if not self._faults.on("OUTLIVE_PARENT"):
            self._die_with_parent()

    def _die_with_parent(self) -> None:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: also ends it while it is stopped
        self._watch_parent()

    def _watch_parent(self) -> None:
        if os.getppid() != self._process.parent:
            self._process.exit(1)
        self._loop.call_later(1, self._watch_parent)

    def _load(self) -> None:
        self._loaded = True
        if not self._faults.on("IGNORE_SIGTERM"):
            for signum in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(signum, self._terminate)
        listening = f"I srv  llama_server: listening on {self._flags.address}"
        self._process.log("I srv  llama_server: model loaded", listening)
        self._start_delayed_faults()

    def _start_delayed_faults(self) -> None:
        if self._faults.on("CRASH_IDLE_SECONDS"):
            seconds = self._faults.number("CRASH_IDLE_SECONDS")
            self._loop.call_later(seconds, self._process.die, self._faults.die_signal)
        if flood := int(self._faults.number("STDERR_FLOOD_BYTES")):
            threading.Thread(target=self._flood, args=(flood,), daemon=True).start()

    def _flood(self, left: int) -> None:
        while left > 0:
            self._process.write(b"#" * min(left, 1 << 16))
            left -= 1 << 16

    def _terminate(self) -> None:
        if self._terminating:
            self._process.log("Received second interrupt, terminating immediately.")
            self._process.exit(1)
        self._process.log("I srv    operator(): operator(): cleaning up before exit...")
        self._terminating = True
        self._engine.silence()
        if self._listening:
            self._listening.close()
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if self._terminating and not self._in_flight:
            self._process.exit(0)

    async def _converse(self, link: Link) -> None:
        while True:
            try:
                request = await link.next_request(self._faults.number("KEEPALIVE", 5))
            except BadRequest:
                link.writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                return
            if request is None:
                return
            reply = Reply(link, request)
            await self._answer(link, request, reply)
            link.served += 1
            if reply.closing:
                return

    async def _answer(self, link: Link, request: Request, reply: Reply) -> None:
        label = (request.method, request.path, request.headers.get("x-request-id", "-"))
        recording = self._faults.on("RECORD")
        body = (request.target, hashlib.sha256(request.body).hexdigest()) if recording else ()
        self._process.record("request", *label, *body)
        self._in_flight += 1
        try:
            await self._route(link, request, reply)
        except Refused as refusal:
            await reply.send(refusal.status, compact(refusal.body).encode(), JSON)
        finally:
            if reply.complete and not link.writer.is_closing():
                self._process.record("done", *label, str(reply.status))
            else:
                lost = (f"{link.lost_at:.6f}" if link.lost_at else "-",) if recording else ()
                self._process.record("aborted", *label, *lost)
            self._in_flight -= 1
            self._leave_if_idle()

    async def _route(self, link: Link, request: Request, reply: Reply) -> None:
        if not self._loaded:
            raise Refused(503, "unavailable_error", "Loading model")
        if request.path not in ("/health", "/v1/health") and not self._authorized(request):
            raise Refused(401, "authentication_error", "Invalid API Key")
        await self._engine.answer(link, request, reply)

    def _authorized(self, request: Request) -> bool:
        given = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        keys = self._flags.api_keys
        return not keys or any(hmac.compare_digest(given.encode(), key.encode()) for key in keys)
