"""Reading the body of a request, within its bounds.

Owns the bounds only: what a body means is told elsewhere.
"""

import asyncio

from aiohttp import web

from llamaproxy.errors import InvalidRequest, RequestTimeout, RequestTooLarge


async def read(request: web.Request, most: int, timeout: float) -> bytes:
    """The whole body, `most` bytes at most, within `timeout` seconds; one that says it is larger is not read at all.

    Raises RequestTooLarge, RequestTimeout, or InvalidRequest where it cannot be decoded.
    """
    if (request.content_length or 0) > most:
        raise _too_large(most)
    try:
        if request.content.is_eof():
            return await _bounded(request, most)
        async with asyncio.timeout(timeout):
            return await _bounded(request, most)
    except TimeoutError as error:
        raise RequestTimeout(f"the body did not arrive within {timeout:.0f} s") from error
    except web.RequestPayloadError as error:
        raise InvalidRequest(f"the body cannot be decoded: {error}") from error


async def _bounded(request: web.Request, most: int) -> bytes:
    parts, size = [], 0
    while part := await request.content.readany():
        size += len(part)
        if size > most:
            raise _too_large(most)
        parts.append(part)
    return b"".join(parts)


def _too_large(most: int) -> RequestTooLarge:
    return RequestTooLarge(f"the body is larger than {most} bytes")
