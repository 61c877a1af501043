"""A question that may block, asked in a thread of its own.

Owns the thread: there is at most one, it is a daemon, and nobody waits for it, so that a file system or a driver that
hangs delays neither a request nor the shutdown. Knows nothing of what is asked.
"""

import logging
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds after which an answer is not believed any more because the next one does not come."""

T = TypeVar("T")


class Probe(Generic[T]):
    """`look` is asked once for each `poke`, unless it has not answered the one before; it may raise anything."""

    def __init__(self, name: str, look: Callable[[], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._look = look
        self._clock = clock
        self._value: T | None = None
        self._error: str | None = None
        self._thread: threading.Thread | None = None
        self._questions: SimpleQueue[bool] = SimpleQueue()
        self._rests = threading.Event()
        self._rests.set()
        self._asked_at = 0.0

    def poke(self) -> None:
        """Ask. Never waits, but for the start of its thread the first time."""
        if not self._rests.is_set():
            return
        try:
            self._thread = self._thread or self._begin()
        except RuntimeError as error:  # no more threads
            self._note(None, str(error))
            return
        self._asked_at = self._clock()
        self._rests.clear()
        self._questions.put(True)

    def close(self) -> None:
        """Its thread ends when it has nothing left to answer."""
        self._questions.put(False)

    def reading(self) -> tuple[T | None, str | None]:
        """The last answer, or None and why there is none."""
        waited = self._clock() - self._asked_at
        if waited > PATIENCE and not self._rests.is_set():
            return None, f"no answer for {waited:.0f} s"
        return self._value, self._error

    @property
    def value(self) -> T | None:
        return self.reading()[0]

    def join(self, timeout: float) -> None:
        """Wait for an answer that is on its way, for `timeout` seconds at most."""
        self._rests.wait(timeout)

    def _begin(self) -> threading.Thread:
        thread = threading.Thread(target=self._serve, name=f"probe-{self._name}", daemon=True)
        thread.start()
        return thread

    def _serve(self) -> None:
        while self._questions.get():
            self._ask()
            self._rests.set()

    def _ask(self) -> None:
        try:
            self._note(self._look(), None)
        except Exception as error:  # drivers raise what they like; it is what is told instead of a value
            self._note(None, str(error) or type(error).__name__)

    def _note(self, value: T | None, error: str | None) -> None:
        if error and error != self._error:
            log.debug("%s: %s", self._name, error)
        self._value, self._error = value, error
