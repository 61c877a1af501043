"""Taking in a changed configuration while the gateway serves.

Owns when it is read again (on request, after an edit, and when a file or the directory of models is another than
before) and what is told about it. A configuration that cannot be used changes nothing but what is told. Must not
decide what a change means for a model: the scheduler does.
"""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from llamaproxy import edits, statefile
from llamaproxy.configfile import Signature, Source
from llamaproxy.edits import Document
from llamaproxy.effective import Origins
from llamaproxy.errors import ConfigError, Conflict, GatewayError
from llamaproxy.models.scan import FoundModel, Scan
from llamaproxy.server.loaded import Changes, Loaded, compare, load, scanned, tell_problems
from llamaproxy.tasks import spawn

log = logging.getLogger(__name__)

WATCH_INTERVAL = 2.0
"""Seconds. Looking works where notifications do not: on bind mounts and network file systems."""
REST = 0.5
"""Seconds in which a file that was changed must stay as it is."""


Look = tuple[Signature, Scan]
"""At the files of the configuration, and at the directory of models."""


Edit = Callable[[Document, Loaded], Document]
"""What the edits shall be, from what they are and what is in force. It is called in a thread."""

Then = Callable[[Loaded], None]
"""What belongs to an edit and is done once that is in force. It is called in a thread."""

Apply = Callable[[Loaded, Changes], None]
"""Puts what was loaded in force. Raises ConfigError where it cannot be used."""


class Reloader:
    """`error` is what is wrong with the newest configuration, None while that is in force; times in Unix seconds."""

    def __init__(self, source: Source, apply: Apply, loaded: Loaded) -> None:
        self._source = source
        self._apply = apply
        self._loaded = loaded
        self._seen = source.signature()
        self._tried = loaded.found
        self._turn = asyncio.Lock()
        self.error: str | None = None
        self.loaded_at = time.time()

    @property
    def origins(self) -> Origins:
        """Where the values that are in force come from."""
        return self._loaded.origins

    @property
    def loaded(self) -> Loaded:
        """What is in force, but for what only a restart takes over."""
        return self._loaded

    @property
    def said(self) -> Origins:
        """Where the values of the newest configuration come from, whatever was set until the next reload."""
        return self._source.origins

    @property
    def file(self) -> Path | None:
        return self._source.path

    async def reload(self) -> Changes:
        """Read everything again and put it in force. Raises ConfigError, and then nothing has changed."""
        return await _to_its_end(self._in_turn(self._reload), "reload")

    async def edit(self, edit: Edit, then: Then | None = None) -> Changes:
        """Change what is kept of edits, and put it in force like a reload. One at a time, so that none is lost.

        `then` follows before anybody else's turn, and everything is read again. Raises what `edit` does, and
        ConfigError; nothing has changed then. Raises what `then` does, too.
        """
        return await _to_its_end(self._in_turn(lambda: self._edit(edit, then)), "edit")

    async def _in_turn(self, work: Callable[[], Awaitable[Changes]]) -> Changes:
        async with self._turn:
            return await work()

    async def _reload(self) -> Changes:
        try:
            loaded = await asyncio.to_thread(self._read)
            changes = compare(self._loaded, loaded)
            self._apply(loaded, changes)
        except ConfigError as error:
            self.error = error.message
            log.error("the configuration was not reloaded, the one before stays: %s", error.message)
            raise
        tell_problems(loaded.found, self._loaded.found)
        self._take(loaded)
        log.info("the configuration was reloaded: %s", changes)
        return changes

    async def _edit(self, edit: Edit, then: Then | None) -> Changes:
        loaded, undo = await asyncio.to_thread(self._edited, edit)
        changes = compare(self._loaded, loaded)
        try:
            self._apply(loaded, changes)
        except ConfigError:
            await asyncio.to_thread(undo)
            self._seen = self._seen[0], self._source.signature()[1]
            raise
        self._take(loaded)
        log.info("the configuration was edited: %s", changes)
        if then:
            await asyncio.to_thread(then, loaded)
            await self._reload()
        return changes

    def _take(self, loaded: Loaded) -> None:
        self._loaded, self.error, self.loaded_at = loaded, None, time.time()
        self._tried = loaded.found

    def amend(self, change: Callable[[Loaded], Loaded]) -> None:
        """Put something else in force, until the next reload reads what stands in the configuration. Raises what
        `change` does, and ConfigError; nothing has changed then."""
        amended = change(self._loaded)
        self._apply(amended, Changes())
        self._loaded = amended

    async def watch(self) -> None:
        """Until cancelled, reload whenever something is new, and nobody writes it any more."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            await self._look_around()

    async def _look_around(self) -> None:
        """A file that is being saved may be empty for a moment: that is a configuration, too, and one of no models.

        So two looks must agree. A file that is no model yet is told of and holds up nobody: a reload ends what was set
        at run time, and copying a model may take an hour.
        """
        before = await asyncio.to_thread(self._look)
        if before == (self._seen, self._tried):
            return
        await asyncio.sleep(REST)
        now = await asyncio.to_thread(self._look)
        if _matter(now) == _matter(before) and self._is_news(now):
            with contextlib.suppress(ConfigError):
                await self._in_turn(self._reload)
        elif now == before and not self._is_news(now):
            self._take_problems(now[1])

    def _look(self) -> Look:
        return self._source.signature(), scanned(self._loaded.config, self._tried)

    def _take_problems(self, found: Scan) -> None:
        tell_problems(found, self._tried)
        self._tried = found
        self._loaded = replace(self._loaded, found=replace(self._loaded.found, problems=found.problems))

    def _read(self, edited: Document | None = None) -> Loaded:
        """The signature comes first: what changes while it is read will be read again."""
        self._seen = self._source.signature()
        self._tried = scanned(self._loaded.config, self._tried)
        config = self._source.load(edited)
        return load(config, self._loaded.found, self._source.origins, self._source.found)

    def _edited(self, edit: Edit) -> tuple[Loaded, Callable[[], None]]:
        """What is on the disk then, and how to have it as it was. Nothing is written that cannot be used."""
        if (path := self._source.edits) is None:
            raise Conflict("this gateway's configuration was made by hand, and cannot be edited")
        looked = self._seen, self._tried
        try:
            with statefile.locked(path):
                before = edits.read(path)
                after = edit(before, self._loaded)
                loaded = self._read(after)
                statefile.replace(path, edits.text(after))
        except GatewayError:
            # What is wrong with the configuration is told by who watches it.
            self._seen, self._tried = looked
            raise
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written: {error.strerror}; server.edits_file names another place"
            ) from error
        self._seen = self._seen[0], self._source.signature()[1]
        return loaded, functools.partial(statefile.replace, path, edits.text(before))

    def _is_news(self, look: Look) -> bool:
        """Whether a reload would take something in."""
        return _matter(look) != _matter((self._seen, self._tried))


async def _to_its_end(work: Coroutine[Any, Any, Changes], name: str) -> Changes:
    """Whoever asked may leave: what was read is put in force, and what stands on the disk is."""
    outcome: Changes | GatewayError = await asyncio.shield(spawn(_outcome(work), name=name))
    if isinstance(outcome, GatewayError):
        raise outcome
    return outcome


async def _outcome(work: Coroutine[Any, Any, Changes]) -> Changes | GatewayError:
    """Of a task of its own, where an error that is answered is none."""
    try:
        return await work
    except GatewayError as error:
        return error


def _matter(look: Look) -> tuple[Signature, tuple[FoundModel, ...]]:
    """What a reload would take in."""
    signature, found = look
    return signature, found.models
