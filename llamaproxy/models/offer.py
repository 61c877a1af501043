"""What of a repository would fit this machine: its quantisations with their sizes and the memory they would take.

Owns the look at the header of a model that is not here: its first bytes are fetched, once for a repository, and read as
those of any file.
"""

import asyncio
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llamaproxy.errors import GatewayError, InvalidModelFile
from llamaproxy.models.fit import Fit, Room, fit
from llamaproxy.models.gguf import GgufInfo, read
from llamaproxy.models.hub import Hub
from llamaproxy.models.repository import HubFile, Quantisation, Repository

log = logging.getLogger(__name__)

_HEADERS = (4 * 1024**2, 16 * 1024**2, 48 * 1024**2)
"""Bytes that are looked at, until there are enough: vocabularies are most of a header, and some are large."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A quantisation; `fit` is reckoned with the projector that would come with it."""

    quantisation: Quantisation
    fit: Fit


async def offers(hub: Hub, repository: Repository, room: Room) -> list[Offer]:
    """In the order of the repository, the smallest first. Raises nothing: without a header, sizes tell."""
    if not repository.quantisations:
        return []
    info = await _header(hub, repository, repository.quantisations[0].files[0])
    beside = repository.projector.size if repository.projector else 0
    return [Offer(each, fit(each.size + beside, info, room)) for each in repository.quantisations]


async def _header(hub: Hub, repository: Repository, file: HubFile) -> GgufInfo | None:
    content = b""
    for most in _HEADERS:
        try:
            content += await _bytes(hub, repository, file, len(content), min(most, file.size))
        except GatewayError as error:
            log.info("%s: its header cannot be had: %s", repository.name, error.message)
            return None
        if info := await asyncio.to_thread(_read, content):
            return info
    return None


async def _bytes(hub: Hub, repository: Repository, file: HubFile, start: int, end: int) -> bytes:
    if start >= end:
        return b""
    content = bytearray()
    async with hub.piece(repository, file, start, end) as piece:
        async for chunk in piece.content.iter_any():
            content += chunk
            if len(content) >= end - piece.start:
                break
    return bytes(content[start - piece.start : end - piece.start])


def _read(content: bytes) -> GgufInfo | None:
    """None where there is not enough of it, or it is no such file."""
    with tempfile.TemporaryDirectory(prefix="llamaproxy-") as folder:
        path = Path(folder) / "header.gguf"
        path.write_bytes(content)
        try:
            return read(path)
        except (InvalidModelFile, OSError):
            return None
