"""One file of the hub on its way to the disk: resumed, checked, bounded.

Owns the `.part` file, which is named after the name and the checksum of what it will be, so that parts of another
version are never taken for parts of this one. Disk and hashing have threads; the event loop only hands bytes over.
Knows nothing of models.
"""

import asyncio
import contextlib
import errno
import functools
import hashlib
import logging
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from llamaproxy.errors import ChecksumMismatch, DiskFull, GatewayError, HubError
from llamaproxy.models.hub import Hub, is_final
from llamaproxy.models.repository import HubFile, Selection

log = logging.getLogger(__name__)

T = TypeVar("T")

_BLOCK = 4 * 1024**2
"""Bytes that are written, or hashed, at once."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Sizes in bytes, times in seconds.

    `margin`: disk that stays free. `piece`: most that one request asks for; who stores files for the hub may refuse to
    send 50 GB in one answer. `tries`: requests in a row that bring nothing worth `progress`.
    """

    margin: int = 1024**3
    piece: int = 16 * 1024**3
    tries: int = 8
    progress: int = 1024**2
    delay: float = 1.0
    longest_delay: float = 60.0


class Part:
    """What is there of a file; blocks on the disk, but for `size`."""

    def __init__(self, folder: Path, file: HubFile, margin: int) -> None:
        self.path = folder / f"{file.identity}.part"
        self._etag = folder / f"{file.identity}.etag"
        self._file = file
        self._margin = margin
        self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o644)
        self._sum = hashlib.sha256()
        self.size = 0

    def take_up(self) -> bool:
        """Count a block of what an earlier attempt left; False where there is no more."""
        block = os.read(self._handle, _BLOCK)
        if self.size + len(block) > self._file.size:
            self.clear()
            return False
        self._sum.update(block)
        self.size += len(block)
        return bool(block)

    def clear(self) -> None:
        """Begin anew."""
        os.ftruncate(self._handle, 0)
        os.lseek(self._handle, 0, os.SEEK_SET)
        self._sum, self.size = hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        """Raises DiskFull, before the margin is touched, and HubError where it becomes longer than it should."""
        if self.size + len(data) > self._file.size:
            self.clear()
            raise HubError(f"{self._file.name} is longer than the hub said")
        check_disk(self.path.parent, len(data), self._margin)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError as error:
            os.ftruncate(self._handle, self.size)
            os.lseek(self._handle, self.size, os.SEEK_SET)
            raise _told(error, self.path) from error
        self._sum.update(data)
        self.size += len(data)

    def finish(self, place: Path) -> None:
        """Put it in its place, whole and on the disk. Raises ChecksumMismatch, and then nothing is left of it."""
        if self._sum.hexdigest() != self._file.sha256:
            self.clear()
            raise ChecksumMismatch(f"{self._file.name} did not arrive as the hub has it: its SHA-256 is another one")
        os.fsync(self._handle)
        os.replace(self.path, place)
        self._etag.unlink(missing_ok=True)

    def close(self) -> None:
        os.close(self._handle)

    def sender(self) -> str | None:
        """The ETag of who sent it."""
        try:
            return self._etag.read_text("ascii")[:256]
        except (OSError, ValueError):
            return None

    def note_sender(self, etag: str | None) -> None:
        if etag is None:
            self._etag.unlink(missing_ok=True)
        else:
            self._etag.write_text(etag, "ascii")


class Download:
    """One file; `told` hears how much of it is there, in bytes, whenever that changes."""

    def __init__(self, hub: Hub, source: Selection, file: HubFile, rules: Rules, told: Callable[[int], None]) -> None:
        self._hub = hub
        self._source = source
        self._file = file
        self._rules = rules
        self._told = told

    async def run(self, folder: Path, place: Path) -> None:
        """Until it is in its place. A wrong checksum is believed the second time. Raises GatewayError."""
        try:
            part = await in_thread(Part, folder, self._file, self._rules.margin)
            try:
                await self._take_up(part)
                await self._complete(part, place, again=True)
            finally:
                part.close()
        except OSError as error:
            raise _told(error, folder) from error

    async def _take_up(self, part: Part) -> None:
        while await in_thread(part.take_up):
            self._told(part.size)

    async def _complete(self, part: Part, place: Path, again: bool) -> None:
        await self._fill(part)
        try:
            await in_thread(part.finish, place)
        except ChecksumMismatch as error:
            if not again:
                raise
            log.warning("%s; once more", error.message)
            await self._complete(part, place, again=False)

    async def _fill(self, part: Part) -> None:
        failures = 0
        while part.size < self._file.size:
            before = part.size
            try:
                await self._fetch(part)
            except GatewayError as error:
                failures = 1 if part.size - before >= self._rules.progress else failures + 1
                if is_final(error) or failures >= self._rules.tries:
                    raise
                log.info("%s; asking again", error.message)
                await asyncio.sleep(self._pause(failures, error.retry_after))

    async def _fetch(self, part: Part) -> None:
        """One request. Raises GatewayError; what came before stays."""
        end = min(self._file.size, part.size + self._rules.piece)
        sender = await in_thread(part.sender) if part.size else None
        async with self._hub.piece(self._source, self._file, part.size, end, sender) as piece:
            if piece.start != part.size:
                await in_thread(part.clear)
            if piece.etag != sender:
                await in_thread(part.note_sender, piece.etag)
            await self._read(part, piece.content)
        if part.size < end:
            raise HubError(f"{self._file.name} broke off after {part.size} bytes")

    async def _read(self, part: Part, content: aiohttp.StreamReader) -> None:
        """To its end; what came before the connection broke, or somebody lost patience, is kept, too."""
        waiting = bytearray()
        try:
            async for chunk in content.iter_any():
                waiting += chunk
                if len(waiting) >= _BLOCK:
                    await self._keep(part, waiting)
        except asyncio.CancelledError:
            # That they cannot be kept must not take the place of this, or the download would go on.
            with contextlib.suppress(GatewayError, OSError):
                await self._keep(part, waiting)
            raise
        finally:
            await self._keep(part, waiting)

    async def _keep(self, part: Part, waiting: bytearray) -> None:
        if not waiting:
            return
        data = bytes(waiting)
        waiting.clear()
        await in_thread(part.write, data)
        self._told(part.size)

    def _pause(self, failures: int, wanted: float | None) -> float:
        """Twice as long each time, and never the same for all who wait."""
        if wanted is not None:
            return wanted
        longest = min(self._rules.longest_delay, self._rules.delay * 2.0 ** min(failures - 1, 30))
        return longest * random.uniform(0.5, 1.0)


def free(folder: Path) -> int:
    """Bytes that this user may still write there. Raises OSError."""
    return shutil.disk_usage(folder).free


def check_disk(folder: Path, wanted: int, margin: int) -> None:
    """Raises DiskFull where so many bytes more would leave less than `margin` of them free."""
    left = free(folder)
    if left < wanted + margin:
        raise DiskFull(f"{left} bytes are free, {wanted} are needed, and {margin} must stay free")


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """To its end even where its caller is cancelled: no file is closed under who writes it."""
    future = asyncio.get_running_loop().run_in_executor(None, functools.partial(work, *arguments))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        future.exception()  # nobody asks for it any more, which would be complained of
        raise


def _told(error: OSError, path: Path) -> GatewayError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"the disk is full: {error.strerror}")
    return GatewayError(f"{path} cannot be written: {error.strerror}")
