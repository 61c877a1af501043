"""Whatever comes, client and meter cannot tell the short way from the long one."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.core.framing import SHORT, ChunkedBody, chunk
from llamaproxy.core.routing import Dialect
from llamaproxy.core.stripping import TimingsStripper
from llamaproxy.core.usage import StreamMeter, Usage
from llamaproxy.server.express import Express
from llamaproxy.server.passthrough import HIGH_WATER
from tests.core.recorded import ALL, pieces

TIMINGS = b',"timings":{"cache_n":5,"prompt_n":4,"predicted_n":3,"predicted_per_second":1e+06}'
EVENT = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"a"}}],"id":"x"' + TIMINGS + b"}\n\n"
RECORDED = [event + b"\n\n" for event in ALL["chat-emoji-timings"].content.split(b"\n\n")[:-1]]
ODD = (
    EVENT.replace(b'"content":"a"', b'"content":""'),
    EVENT.replace(b'"content":"a"', b'"role":"assistant","content":null'),
    EVENT.replace(b'"content":"a"', b'"reasoning_content":"a"'),
    EVENT.replace(b'"index":0', b'"index":1'),
    EVENT.replace(b"null", b'"stop"'),
    EVENT.replace(TIMINGS, b""),
    EVENT.replace(TIMINGS, TIMINGS + TIMINGS),
    EVENT.replace(TIMINGS, TIMINGS + b',"usage":{"completion_tokens":9}'),
    EVENT.replace(b"}\n\n", b',"more":1}\n\n'),
    EVENT.replace(b"}\n\n", b"}\ndata:\n\n"),
    EVENT.replace(b'"cache_n"', b'\n\n"cache_n"'),
    EVENT.replace(b'"id"', b'\n"id"'),
    EVENT.replace(b'"a"', b'"%b"' % (SHORT * b"a")),
    EVENT[: EVENT.index(b"a")],
    b": waiting\n\n",
    b"\n",
    b'data: {"choices":[],"usage":{"completion_tokens":9}}\n\n',
    b"data: [DONE]\n\n",
)


class Client(asyncio.WriteTransport):
    """A client's connection; `unsent` bytes wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.got = b""
        self.unsent = 0
        self.closed = False

    def write(self, data: Any) -> None:
        assert not self.closed
        self.got += data

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Way:
    """A stream on its way, with all that stands around the short one. `long` pieces did not take it."""

    def __init__(self, short: bool = True) -> None:
        self.client = Client()
        self.meter = StreamMeter(Dialect.OPENAI)
        self.stripper = TimingsStripper()
        self.body = ChunkedBody(self.pass_on)
        self.long = self.told = 0
        self.deaf = False
        self.news: list[str] = []
        self.express = Express(self, self.meter, self.stripper, self.client, self) if short else None

    def feed(self, piece: bytes) -> None:
        (self.express or self).data_received(piece)

    @property
    def known(self) -> tuple[bytes, Usage, int]:
        return self.client.got, self.meter.usage, self.meter.tokens

    # As a connection

    @property
    def between_chunks(self) -> bool:
        return self.body.between_chunks

    def data_received(self, data: bytes) -> None:
        self.long += 1
        if not self.deaf:
            self.body.feed(data)

    def eof_received(self) -> bool:
        self.news.append("eof")
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.news.append(f"lost: {error}")

    # As a relay

    def pass_on(self, content: bytes) -> None:
        self.meter.feed(content)
        if left := self.stripper.through(content):
            self.sent(len(chunk(left)))
            self.client.write(chunk(left))

    def sent(self, count: int) -> None:
        self.told += count

    def hold_back(self) -> None:
        self.news.append("hold back")

    def leave(self) -> None:
        self.news.append("leave")


def both(came: list[bytes]) -> Way:
    """The short way, where every piece was as it is on the long one. Meters are looked at now and then: that settles
    what they know."""

    async def run() -> Way:
        short, long = Way(), Way(short=False)
        for number, piece in enumerate(came):
            short.feed(piece)
            long.feed(piece)
            assert short.client.got == long.client.got
            assert number % 5 or short.known == long.known
        assert (short.known, short.told) == (long.known, long.told)
        return short

    return asyncio.run(run())


def ordinary() -> list[bytes]:
    """So many that the next one takes the short way."""
    return [chunk(EVENT)] * 4


EVENTS = st.lists(st.sampled_from((EVENT, EVENT, EVENT, *RECORDED, *ODD)), max_size=12)


@given(EVENTS, st.booleans())
def test_chunks_one_by_one(events: list[bytes], ordinary_before: bool) -> None:
    both(ordinary() * ordinary_before + [chunk(event) for event in events])


@given(EVENTS, st.lists(st.integers(0, 5000), max_size=5), st.lists(st.integers(0, 5000), max_size=5))
def test_however_it_is_cut(events: list[bytes], chunks: list[int], cuts: list[int]) -> None:
    """Into chunks, and into pieces."""
    framed = b"".join(chunk(part) for part in pieces(b"".join(events), chunks) if part)
    both(ordinary() + [piece for piece in pieces(framed, cuts) if piece])


@given(st.binary(max_size=40), st.integers(0, 500), st.integers(0, 60))
def test_one_that_is_nearly_ordinary(put: bytes, at: int, instead_of: int) -> None:
    event = EVENT[:at] + put + EVENT[at + instead_of :]
    both([*ordinary(), chunk(event), chunk(EVENT)])


@pytest.mark.parametrize(
    "odd", [chunk(EVENT)[:-1], chunk(EVENT)[1:], b"0" + chunk(EVENT), chunk(EVENT)[4:], EVENT, *map(chunk, ODD)]
)
def test_what_is_not_one_ordinary_chunk_is_left(odd: bytes) -> None:
    way = both(ordinary())
    tokens, long = way.meter.tokens, way.long
    way.deaf = True
    way.feed(odd)
    assert (way.meter.tokens, way.long) == (tokens, long + 1)


def test_what_looks_like_a_chunk_within_one_is_not() -> None:
    inner = chunk(EVENT)
    assert both([*ordinary(), b"%x\r\n" % len(inner), inner, b"\r\n", inner]).long >= 5


def test_what_an_engine_mostly_sends_takes_it() -> None:
    """All but the first, by which the others are known, and the two that end it."""
    way = both([chunk(event) for event in RECORDED])
    assert way.long == 3
    assert way.meter.usage.exact


def test_so_does_reasoning() -> None:
    thinking = EVENT.replace(b"content", b"reasoning_content")
    assert both([chunk(thinking)] * 99 + [chunk(EVENT)] * 99).long < 48


@pytest.mark.parametrize(
    "event",
    [
        EVENT.replace(b'"finish_reason":null,', b"").replace(b"}}]", b'},"finish_reason":null}]'),
        EVENT.replace(b'"index":0,', b"").replace(b"}}]", b'},"index":0}]'),
        EVENT.replace(b'"delta":{"content":"a"}', b'"delta":{"refused":"a"}'),
        EVENT.replace(TIMINGS, b',"usage":{"completion_tokens":9}' + TIMINGS),
    ],
    ids=["goes on, told later", "first choice, told later", "no content", "usage"],
)
def test_events_that_do_not_begin_with_what_they_are_never_do(event: bytes) -> None:
    assert both([chunk(event)] * 40).long == 40


async def test_client_that_takes_nothing_is_waited_for() -> None:
    way = Way()
    for piece in ordinary():
        way.feed(piece)
    way.client.unsent = HIGH_WATER
    way.feed(chunk(EVENT))
    assert way.news == []
    way.client.unsent += 1
    way.feed(chunk(EVENT))
    assert way.news == ["hold back"]


async def test_client_that_is_gone_is_told() -> None:
    way = Way()
    for piece in ordinary():
        way.feed(piece)
    told = way.told
    way.client.closed = True
    way.feed(chunk(EVENT))
    assert (way.news, way.told) == (["leave"], told)


async def test_the_connection_hears_of_its_end() -> None:
    way = Way()
    assert way.express
    assert way.express.eof_received() is False
    way.express.connection_lost(OSError("reset"))
    assert way.news == ["eof", "lost: reset"]


async def test_what_it_takes_breaks_the_silence() -> None:
    way, before = Way(), asyncio.get_running_loop().time()
    for piece in ordinary():
        way.feed(piece)
    assert way.express and way.express.heard_at >= before
