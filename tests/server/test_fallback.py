"""What `test_splice` does not ask of both ways: backpressure by documented means."""

import asyncio
from types import SimpleNamespace
from typing import Any

from aiohttp.test_utils import make_mocked_request

from llamaproxy.core.response import parse
from llamaproxy.server.fallback import as_it_is
from llamaproxy.server.passthrough import HIGH_WATER
from llamaproxy.tasks import spawn
from tests.gateway import until

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"


class Slow:
    """A response whose client takes a piece when the test says so."""

    prepared = True

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.turn = asyncio.Semaphore(0)

    async def write(self, data: bytes) -> None:
        await self.turn.acquire()
        self.taken.append(data)

    async def write_eof(self) -> None:
        self.taken.append(b"")


class Fast:
    """An engine's answer that has come to its end."""

    def __init__(self, *content: bytes) -> None:
        self.head = parse(HEAD, to_head=False)
        self.content = content
        self.paused = False

    def relay(self, sink: Any, content: Any) -> asyncio.Future[None]:
        for piece in self.content:
            content(piece)
        ended = asyncio.get_running_loop().create_future()
        ended.set_result(None)
        return ended

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False


async def test_engine_waits_for_a_client_that_does_not_take() -> None:
    answer: Any = Fast(b"x" * HIGH_WATER, b"y", b"z")
    response: Any = Slow()
    request = make_mocked_request("GET", "/")
    seen: list[bytes] = []
    relay = as_it_is(request, answer, b"", response, None, 10.0, lambda count: None)
    running = spawn(relay.run(seen.append), name="run")
    await until(lambda: len(seen) == 3, "the engine has said everything")
    assert answer.paused
    response.turn.release()
    await until(lambda: not answer.paused, "the client has taken enough")
    assert response.taken == [b"x" * HIGH_WATER]
    response.turn.release()
    response.turn.release()
    await asyncio.wait_for(running, 10)
    assert response.taken == [*seen, b""]


def test_head_is_made_of_the_engines_and_our_own() -> None:
    request = make_mocked_request("GET", "/")
    answer: Any = SimpleNamespace(head=parse(HEAD.replace(b"text/plain", b"a/b\r\nServer: x"), to_head=False))
    relay = as_it_is(request, answer, b"X-Own: 1\r\n", None, None, 10.0, lambda count: None)
    assert dict(relay.response.headers) == {"Content-Type": "a/b", "X-Own": "1"}
    assert relay.response.chunked
