"""Reading the body of a request, within its bounds, and copying it once at most.

Owns the bounds and the codings only: what a body means is told elsewhere.
"""

import asyncio
import io

from aiohttp import web
from aiohttp.http_exceptions import ContentEncodingError, HttpProcessingError

from llamaproxy.errors import InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType
from llamaproxy.server.incoming import Request

_DECODED = frozenset({"identity", "gzip", "deflate", "br", "zstd"})
"""Content codings that aiohttp undoes while it reads; it does nothing about others, or about several."""


async def read(request: web.Request, most: int, timeout: float) -> bytes:
    """The whole body, `most` bytes at most, within `timeout` seconds; one that says it is larger is not read at all.

    Of one that came compressed the bounds are for what it unfolds to. Raises RequestTooLarge, RequestTimeout,
    UnsupportedMediaType, or InvalidRequest where it cannot be decoded.
    """
    if isinstance(request, Request) and request.whole is not None:
        if len(request.whole) > most:
            raise _too_large(most)
        return request.whole
    if (request.content_length or 0) > most:
        raise _too_large(most)
    _check_coding(request)
    try:
        if request.content.is_eof():
            return await _bounded(request, most)
        async with asyncio.timeout(timeout):
            return await _bounded(request, most)
    except TimeoutError as error:
        raise RequestTimeout(f"the body did not arrive within {timeout:.0f} s") from error
    except (web.RequestPayloadError, HttpProcessingError) as error:
        # The parser in Python raises the second, for the same.
        if isinstance(error.__cause__, ContentEncodingError):
            raise InvalidRequest("the body is not what its Content-Encoding says") from error
        raise InvalidRequest(f"the body cannot be decoded: {' '.join(str(error).split())[:200]}") from error


def _check_coding(request: web.Request) -> None:
    coding = request.headers.get("Content-Encoding", "").strip().lower() or "identity"
    if coding not in _DECODED:
        raise UnsupportedMediaType(f"a body with the content coding {coding[:40]!r} cannot be read")


async def _bounded(request: web.Request, most: int) -> bytes:
    content = request.content
    first = await content.readany()
    if content.at_eof() and len(first) <= most:
        return first
    # It grows with what arrives, and gives its buffer away: joining parts would take twice the memory and a copy more.
    whole = io.BytesIO()
    part, more = first, False
    while part or more:
        whole.write(part)
        if whole.tell() > most:
            raise _too_large(most)
        part, more = await content.readchunk()
        if content.total_compressed_bytes is not None:
            # What is here already may unfold for seconds, and nobody else would have a turn.
            await asyncio.sleep(0)
    return whole.getvalue()


def _too_large(most: int) -> RequestTooLarge:
    return RequestTooLarge(f"the body is larger than {most} bytes")
