"""Reading the body of a request, within its bounds, and copying it once at most.

Owns the bounds and the codings only: what a body means is told elsewhere.
"""

import asyncio
import io

from aiohttp import web

from llamaproxy.errors import InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType

_DECODED = frozenset({"identity", "gzip", "deflate", "br", "zstd"})
"""Content codings that aiohttp undoes while it reads; it does nothing about others, or about several."""

_FAREWELL = 1024**2
_PATIENCE = 1.0
"""Unfolded bytes and seconds for a compressed body that nobody wants, before its client gets to know."""


async def read(request: web.Request, most: int, timeout: float) -> bytes:
    """The whole body, `most` bytes at most, within `timeout` seconds; one that says it is larger is not read at all.

    Of one that came compressed the bounds are for what it unfolds to. Raises RequestTooLarge, RequestTimeout,
    UnsupportedMediaType, or InvalidRequest where it cannot be decoded.
    """
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
    except web.RequestPayloadError as error:
        raise InvalidRequest(f"the body cannot be decoded: {' '.join(str(error).split())}") from error


def _check_coding(request: web.Request) -> None:
    coding = request.headers.get("Content-Encoding", "").strip().lower() or "identity"
    if coding not in _DECODED:
        raise UnsupportedMediaType(f"a body with the content coding {coding[:40]!r} cannot be read")


def is_left(request: web.Request) -> bool:
    """Whether some of a compressed body has not been read: no other request can follow it."""
    return not request.content.is_eof() and request.content.total_compressed_bytes is not None


async def leave(request: web.Request) -> None:
    """Read a little of a compressed body whose request has been decided on, for its client to see why; leave the rest.

    After its answer aiohttp reads on for ten seconds, for the same reason. Of a few packed megabytes that unfolds
    gigabytes, and nobody else has a turn meanwhile: an exception ends it as those seconds do.
    """
    if request.transport is None or not is_left(request):
        return
    content = request.content
    try:
        async with asyncio.timeout(_PATIENCE):
            async for _ in content.iter_any():
                if content.total_bytes > _FAREWELL:
                    break
                await asyncio.sleep(0)
    except (TimeoutError, ConnectionError, web.RequestPayloadError):
        pass  # Nobody asks for this body any more.
    if not content.is_eof():
        content.set_exception(TimeoutError())


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
