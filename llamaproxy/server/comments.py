"""Comments in a stream that has to wait: a client that hears nothing for a minute thinks the worst.

Owns the early start of a streamed response, before anybody knows what the answer will be. An SSE comment is a line
that begins with a colon; clients ignore it. It never comes with an `id:` line, which some clients cannot bear.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web

from llamaproxy.tasks import spawn

_CONTROL = dict.fromkeys(map(ord, "\r\n"), " ")


class WaitingComments:
    """Around the wait for a lease: after `after` seconds the response begins, and says `describe()` as often.

    `stop` must be called before anybody else writes; it returns the response if it has begun. `start` goes on with
    another wait of the same request.
    """

    def __init__(
        self,
        request: web.Request,
        after: float,
        describe: Callable[[], str],
        headers: Callable[[], dict[str, str]],
        on_sent: Callable[[int], None],
    ) -> None:
        self._request = request
        self._after = after
        self._describe = describe
        self._headers = headers
        self._on_sent = on_sent
        self._response: web.StreamResponse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def start(self) -> None:
        """Most requests are granted before the timer rings, and need no task."""
        self._timer = asyncio.get_running_loop().call_later(self._after, self._begin)

    async def stop(self) -> web.StreamResponse | None:
        if self._timer:
            self._timer.cancel()
        if self._task and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task})
        return self._response

    def _begin(self) -> None:
        self._task = spawn(self._speak(), name="waiting-comments")

    async def _speak(self) -> None:
        try:
            # From here on the response has begun, also for a cancellation that comes while it is being sent.
            self._response = response = self._response or self._made()
            await response.prepare(self._request)
            while True:
                comment = f": {self._describe().translate(_CONTROL)}\n\n".encode()
                self._on_sent(len(comment))
                await response.write(comment)
                await asyncio.sleep(self._after)
        except ConnectionError:
            # The client has left; its request is cancelled by whoever watches the connection.
            return

    def _made(self) -> web.StreamResponse:
        return web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache", **self._headers()}
        )
