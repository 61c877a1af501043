"""llamaproxy.server.parting: the last word to a client that is still sending. More of it is in `test_inbound.py`."""

import asyncio

import pytest
from aiohttp import web

from llamaproxy.errors import InvalidRequest
from llamaproxy.server.inbound import Inbound
from llamaproxy.server.incoming import Request
from llamaproxy.server.lane import Handler
from llamaproxy.server.parting import close_after, refused
from tests.gateway import PATIENCE
from tests.server.conftest import InboundServer
from tests.server.raw import Answers, connected, say

# Plain requests are whole before anybody is asked: these are not plain.
HALF = b"POST %b?x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"


async def told(handler: Handler, path: bytes = b"/") -> Answers:
    async with InboundServer(Inbound(handler, lambda: PATIENCE)) as server:
        return await say(server.port, HALF % path)


async def test_answer_comes_whole_and_is_the_last() -> None:
    async def answer(request: Request) -> web.StreamResponse:
        response = web.Response(status=404, text="nothing")
        await close_after(request, response)
        return response

    answers = await told(answer)
    assert answers.statuses == [404]
    assert answers.text.endswith(b"\r\n\r\nnothing")
    assert b"connection: close" in answers.last_head


@pytest.mark.parametrize(("path", "kind"), [(b"/", "invalid_request_error"), (b"/v1/messages", "error")])
async def test_refusal_speaks_the_words_of_the_api(path: bytes, kind: str) -> None:
    answers = await told(lambda request: refused(request, InvalidRequest("no")), path)
    assert answers.statuses == [400]
    assert f'"type":"{kind}"'.encode() in answers.text


async def test_client_that_leaves_its_refusal_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    ended = asyncio.Event()

    async def refuse(request: Request) -> web.StreamResponse:
        assert request.transport
        request.transport.abort()
        response = web.Response(status=404)
        try:
            await close_after(request, response)
        finally:
            ended.set()
        return response

    async with InboundServer(Inbound(refuse, lambda: PATIENCE)) as server, connected(server.port) as (_, writer):
        writer.write(HALF % b"/")
        await asyncio.wait_for(ended.wait(), PATIENCE)
    assert not caplog.records
