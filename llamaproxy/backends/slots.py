"""KV carry-over: a model's slots, saved before its process stops and restored after the next one's start.

Owns the order and the bounds of it, and the verdict: an engine can say that it restored a slot and reuse nothing. So
the first request of a new life, where it continues the last one of the life before, is looked at when its answer
ends. Nothing here may fail a stop or a start, or delay one beyond its bound: what goes wrong is a line in the log.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from llamaproxy.backends.lost import UpstreamLost
from llamaproxy.backends.slot_actions import SlotsRefused, list_slots, restore_slot, save_slot
from llamaproxy.backends.slot_files import SlotFile, SlotFiles, draft_name, remove
from llamaproxy.backends.upstream import Upstream
from llamaproxy.config import KvConfig
from llamaproxy.core.reuse import Fingerprint, Trial, was_of_use
from llamaproxy.errors import Exhausted
from llamaproxy.tasks import spawn

log = logging.getLogger(__name__)

_GB = 10**9
_FAILURES = (SlotsRefused, UpstreamLost, Exhausted, OSError)
"""TimeoutError is an OSError."""


@dataclass(slots=True)
class _Save:
    """How far a save has come; `whole` once every slot was saved."""

    name: str = ""
    done: list[Path] = field(default_factory=list)
    tokens: int = 0
    bytes: int = 0
    whole: bool = False


@dataclass(slots=True)
class Counts:
    """Of all models since the gateway began: bytes that were saved, tokens that were restored, and those of them that
    the first request found in its prompt's cache."""

    saved_bytes: int = 0
    restored_tokens: int = 0
    reused_tokens: int = 0


class Carry:
    """One model under one key, through any number of processes, one at a time.

    `saved_tokens` and `restored_tokens` are those of the last save and the last restore; `off` says why there will be
    no more of them.
    """

    def __init__(
        self, model: str, key: str, files: SlotFiles, settings: KvConfig, counts: Counts | None = None
    ) -> None:
        """Raises OSError."""
        self._counts = counts or Counts()
        self.model = model
        self.key = key
        self.directory = files.folder(key)
        self.off = files.off(key)
        self.saved_tokens = 0
        self.restored_tokens = 0
        self._files = files
        self._settings = settings
        self._trial = Trial()
        self._drafts: set[Path] = set()
        self._whole_save = ""
        self._last: Fingerprint | None = None
        self._returning: Fingerprint | None = None

    @property
    def save_timeout(self) -> float:
        """Seconds that `save` takes at most."""
        return self._settings.save_timeout

    def begin(self, body: bytes) -> float:
        """A request begins. The part of it, from 0 to 1, that is of a conversation which was restored: its answer tells
        whether that was of use.

        Only the first one after a restore finds every slot as it was restored.
        """
        returning, self._returning, self._last = self._returning, None, None
        return Fingerprint.of(body).share_of(returning) if returning else 0.0

    def served(self, body: bytes, share: float, prompt: int | None, cached: int | None) -> None:
        """Its answer is complete and good, and tells so many tokens of its prompt. Not to be called for any other.

        Until another begins, its conversation is surely in a slot.
        """
        self._last = Fingerprint.of(body)
        if share and prompt is not None and cached is not None:
            self._counts.reused_tokens += min(cached, self.restored_tokens)
            useful = was_of_use(prompt, cached, share, self.restored_tokens)
            self._judge(useful, f"of {self.restored_tokens} restored tokens {cached} were reused")

    async def save(self, upstream: Upstream) -> None:
        """Save every slot that is not at work, the one used last first. Never raises."""
        if self.off:
            return
        begun = time.monotonic()
        save = _Save()
        try:
            async with asyncio.timeout(self._settings.save_timeout):
                await self._save_slots(upstream, save)
        except _FAILURES as error:
            log.warning("%s: slots were not all saved: %s", self.model, _words(error, self._settings.save_timeout))
            if isinstance(error, SlotsRefused) and error.unsupported:
                self._switch_off("the engine cannot save slots of this model")
        if save.done and not self.off:
            self._keep(save, time.monotonic() - begun)

    async def restore(self, upstream: Upstream) -> None:
        """Restore what was saved last. Never raises; cancelling it changes nothing on the disk."""
        self.restored_tokens, self._returning = 0, None
        if self.off or not (files := self._saved()):
            return
        begun = time.monotonic()
        timeout = self._settings.restore_timeout * max(1.0, sum(file.size for file in files) / _GB)
        try:
            async with asyncio.timeout(timeout):
                await self._restore_slots(upstream, files)
        except _FAILURES as error:
            reason = f"slots were not restored: {_words(error, timeout)}"
            log.warning("%s: %s", self.model, reason)
            self._distrust(files, reason)
        else:
            self._counts.restored_tokens += self.restored_tokens
            seconds = time.monotonic() - begun
            log.info("%s: %d tokens of KV restored in %.2f s", self.model, self.restored_tokens, seconds)
            # Of another gateway's slots, or not all of our own, nothing can be expected.
            self._returning = self._last if files[0].save == self._whole_save else None

    def process_gone(self) -> None:
        """What is still a draft will never be complete."""
        drafts, self._drafts = self._drafts, set()
        if drafts:
            _in_background(lambda: remove(drafts), f"discard-slots-{self.model}")

    async def _save_slots(self, upstream: Upstream, save: _Save) -> None:
        """What was done before the time is up is kept: a slot is of use without the others."""
        folder, save.name = self._files.folder(self.key), self._files.new_save(self.key)
        slots = await list_slots(upstream)
        idle = sorted((slot for slot in slots if not slot.busy), key=lambda slot: slot.task, reverse=True)
        largest = max((file.size for file in self._files.saved(self.key)), default=0)
        for rank, slot in enumerate(idle):
            if not self._files.has_room(largest):
                raise SlotsRefused("the disk has too little room")
            draft = folder / draft_name(save.name, rank)
            self._drafts.add(draft)
            if tokens := await save_slot(upstream, slot.id, draft.name):
                save.done.append(draft)
                save.tokens += tokens
                size = draft.stat().st_size
                save.bytes += size
                largest = max(largest, size)
        save.whole = len(idle) == len(slots)

    def _keep(self, save: _Save, seconds: float) -> None:
        """What was saved takes the place of what was there. A slot is of use without those that were not saved."""
        try:
            self._files.keep(save.done)
        except OSError as error:
            log.warning("%s: saved slots were not kept: %s", self.model, error)
            return
        self._drafts.difference_update(save.done)
        self._whole_save = save.name if save.whole else ""
        self.saved_tokens = save.tokens
        self._counts.saved_bytes += save.bytes
        log.info("%s: %d tokens of KV saved in %.2f s", self.model, save.tokens, seconds)
        _in_background(self._files.tidy, "tidy-slots")

    def _saved(self) -> list[SlotFile]:
        try:
            return self._files.saved(self.key)
        except OSError as error:
            log.warning("%s: saved slots cannot be found: %s", self.model, error)
            return []

    async def _restore_slots(self, upstream: Upstream, files: list[SlotFile]) -> None:
        """Into the lowest ids: a new conversation takes the highest of the slots that have served nothing yet."""
        ids = sorted(slot.id for slot in await list_slots(upstream))
        for slot, file in zip(ids, files, strict=False):
            self.restored_tokens += await restore_slot(upstream, slot, file.path.name)

    def _distrust(self, files: list[SlotFile], reason: str) -> None:
        """What could not be restored, or cost the engine its life, is not tried again.

        Where it is gone, another gateway has saved something newer meanwhile, and nobody is to blame.
        """
        if all(file.path.exists() for file in files):
            self._judge(False, reason)
        _in_background(lambda: remove(file.path for file in files), f"discard-slots-{self.model}")

    def _judge(self, useful: bool, reason: str) -> None:
        self._trial.judge(useful)
        if self._trial.failed and not self.off:
            self._switch_off(reason)

    def _switch_off(self, reason: str) -> None:
        self.off = reason
        log.warning("%s: KV is no longer carried over, it gains nothing: %s", self.model, reason)
        _in_background(lambda: self._files.switch_off(self.key, reason), f"switch-off-slots-{self.model}")


def _in_background(work: Callable[[], None], name: str) -> None:
    """Large files take their time to go, and nobody waits for that."""

    async def working() -> None:
        try:
            await asyncio.to_thread(work)
        except OSError as error:
            log.warning("%s failed: %s", name, error)

    spawn(working(), name=name)


def _words(error: Exception, timeout: float) -> str:
    return f"not within {timeout:g} s" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
