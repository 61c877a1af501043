"""`/llamaproxws`: one WebSocket for each page, over which it asks, and is told what changes.

Owns the pages that are connected, who of them watches what, and when they are told: at most twice a second, every
message made once for all of them. Without pages nothing runs here. What changes is `live_topics`' word, what can be
asked `live_events`', how a page is written to `live_client`'s.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from aiohttp import WSCloseCode, web

from llamaproxy import __version__, scope
from llamaproxy.core import envelope
from llamaproxy.core.envelope import Ask
from llamaproxy.errors import GatewayError, InvalidRequest, ShuttingDown, TooManyPages
from llamaproxy.server.current import Current
from llamaproxy.server.incoming import Request
from llamaproxy.server.live_client import HEARTBEAT, Page
from llamaproxy.server.live_events import Events
from llamaproxy.server.live_topics import Topic
from llamaproxy.server.stamp import stamp
from llamaproxy.server.upgrade import wanted_key
from llamaproxy.tasks import spawn

log = logging.getLogger(__name__)

PATH = "/llamaproxws"
MOST_PAGES = 64
FLUSH = 0.5
"""Seconds between two looks for changes."""


class Live:
    """All pages. `dropped` counts the messages that pages were not sent because they did not keep up."""

    def __init__(
        self,
        current: Current,
        events: Events,
        topics: Mapping[str, Topic],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._current = current
        self._events = events
        self._topics = topics
        self._clock = clock
        self._started = self._now()
        self._pages: set[Page] = set()
        self._flushing: asyncio.Task[None] | None = None
        self._closing = False
        self.dropped = 0

    @property
    def pages(self) -> int:
        return len(self._pages)

    async def serve(self, request: Request) -> web.StreamResponse:
        """Returns when the page has left. Raises InvalidRequest, ShuttingDown or TooManyPages where it cannot begin."""
        if wanted_key(request) is None:
            raise InvalidRequest(f"{PATH} speaks WebSocket (RFC 6455) only")
        if self._closing:
            raise ShuttingDown("the gateway is shutting down", retry_after=5)
        if len(self._pages) >= MOST_PAGES:
            raise TooManyPages(f"{MOST_PAGES} pages are connected already", retry_after=10)
        page = Page(request)
        page.socket.headers.update(stamp(request, self._current.guard))
        self._pages.add(page)
        try:
            self._greet(page)
            async with contextlib.aclosing(page.messages()) as messages:
                async for text in messages:
                    await page.answer(await self._answered(page, envelope.read(text)))
        finally:
            self._pages.discard(page)
            self._watch(page, frozenset())
        return page.socket

    async def close(self) -> None:
        """Send all pages away: the gateway is going."""
        self._closing = True
        goodbyes = [page.close(WSCloseCode.GOING_AWAY, "the gateway is shutting down") for page in self._pages]
        await asyncio.gather(*goodbyes, return_exceptions=True)

    def _greet(self, page: Page) -> None:
        hello = {
            "protocol": envelope.PROTOCOL,
            "version": __version__,
            "started": self._started,
            "topics": list(self._topics),
            "heartbeat": HEARTBEAT,
        }
        page.offer(envelope.broadcast("hello", hello, self._now()))

    async def _answered(self, page: Page, ask: Ask) -> bytes:
        try:
            if ask.fault:
                raise ask.fault
            self._check(page)
            if ask.event == "ping":
                return envelope.answer(ask, {}, self._now())
            if ask.event == "subscribe":
                return envelope.answer(ask, await self._subscribe(page, ask), self._now())
            return envelope.answer(ask, await self._events.answer(page.request, ask), self._now())
        except GatewayError as error:
            return envelope.refusal(ask, error, self._now())
        except Exception:  # one question fails, not the page
            log.exception("%s failed", ask.event)
            return envelope.refusal(ask, GatewayError("the gateway failed; its log says why"), self._now())

    async def _subscribe(self, page: Page, ask: Ask) -> dict[str, object]:
        """From the snapshot on nothing waits: what is told next follows it."""
        wanted = self._known(ask.data.get("topics"))
        for name in wanted:
            await self._topics[name].prepare()
        self._watch(page, wanted)
        watched = {name: topic for name, topic in self._topics.items() if name in wanted}
        return {
            "seq": {name: topic.seq for name, topic in watched.items()},
            "snapshot": {name: topic.snapshot() for name, topic in watched.items()},
        }

    def _known(self, names: object) -> frozenset[str]:
        """Raises InvalidRequest."""
        if not isinstance(names, list) or not all(isinstance(name, str) and name in self._topics for name in names):
            raise InvalidRequest(f"`topics` must be a list of {', '.join(self._topics)}", param="topics")
        return frozenset(names)

    def _watch(self, page: Page, topics: frozenset[str]) -> None:
        """From now on this page watches these."""
        page.topics = topics
        watched = frozenset[str]().union(*(page.topics for page in self._pages))
        for name, topic in self._topics.items():
            if topic.watched != (name in watched):
                topic.watched = not topic.watched
                (topic.begin if topic.watched else topic.end)()
        if watched and self._flushing is None:
            self._flushing = spawn(self._flush_until_alone(), name="live", context=scope.of_nobody())

    async def _flush_until_alone(self) -> None:
        try:
            while any(topic.watched for topic in self._topics.values()):
                await asyncio.sleep(FLUSH)
                self.flush()
        except Exception:  # pages that are told nothing must not believe that nothing changes
            log.exception("pages cannot be told what changes; they are sent away, to come again")
            for page in self._pages:
                page.abort()
        finally:
            self._flushing = None

    def flush(self) -> None:
        """Tell everybody what is another than when they were last told."""
        self._send_away_whose_key_is_no_more()
        for name, topic in self._topics.items():
            if topic.watched:
                for event, data in topic.changes():
                    topic.seq += 1
                    self._tell(name, envelope.broadcast(event, data, self._now(), name, topic.seq))

    def _tell(self, topic: str, frame: bytes) -> None:
        for page in self._pages:
            if topic in page.topics and not page.offer(frame):
                self.dropped += 1

    def _send_away_whose_key_is_no_more(self) -> None:
        for page in self._pages:
            try:
                self._check(page)
            except GatewayError as error:
                page.topics = frozenset()
                spawn(page.close(WSCloseCode.POLICY_VIOLATION, error.message[:100]), name="close-page")

    def _check(self, page: Page) -> None:
        """Whether it may still be here. Raises Forbidden or InvalidApiKey."""
        self._current.guard.check("GET", PATH, page.request.headers)

    def _now(self) -> int:
        """In milliseconds since the epoch."""
        return round(self._clock() * 1000)
