"""One connection: what comes is handed on as it is, and what is wrong is told."""

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.backends.lost import ConnectionLost, ConnectionSilent
from llamaproxy.backends.wire import Connection
from llamaproxy.core.response import MAX_HEAD, BadResponse

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Wire(asyncio.Transport):
    """The other side of a connection, played by the test."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.reading = True
        self.unsent = 0
        self.closed = False
        self.lost: list[Connection] = []
        self.connection = Connection(self.lost.append)
        self.hears: Any = self.connection
        self.connection.connection_made(self)

    def write(self, data: Any) -> None:
        assert not self.closed
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.hears.connection_lost, None)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.hears.data_received(piece)

    def hang_up(self, error: Exception | None = None) -> None:
        self.closed = True
        self.hears.connection_lost(error)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.hears = protocol

    def ask(self, to_head: bool = False) -> "asyncio.Future[Any]":
        """Begin an exchange."""
        return self.connection.ask(b"req", b"uest", to_head=to_head)


async def exchange(*pieces: bytes, close: bool = False, to_head: bool = False) -> tuple[int, bytes, bool]:
    """Status and bytes of the body of one whole exchange, and whether another may follow."""
    wire = Wire()
    asking = wire.ask(to_head)
    wire.say(*pieces)
    if close:
        wire.hang_up()
    head = await asking
    received: list[bytes] = []
    await wire.connection.relay(received.append)
    return head.status, b"".join(received), wire.connection.reusable


class TestWhole:
    async def test_body_comes_as_it_was_framed(self) -> None:
        assert await exchange(WHOLE) == (200, b"hello", True)
        assert await exchange(HEAD, CHUNKS) == (200, CHUNKS, True)

    async def test_body_that_ends_with_the_connection(self) -> None:
        assert await exchange(b"HTTP/1.1 200 OK\r\n\r\n", b"some", b"thing", close=True) == (200, b"something", False)
        assert await exchange(b"HTTP/1.1 200 OK\r\n\r\n", close=True) == (200, b"", False)

    @pytest.mark.parametrize("head", [b"HTTP/1.1 204 x\r\n\r\n", b"HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n"])
    async def test_answer_without_a_body(self, head: bytes) -> None:
        assert (await exchange(head))[1:] == (b"", True)

    async def test_answer_to_head(self) -> None:
        assert await exchange(HEAD, to_head=True) == (200, b"", True)

    async def test_interim_answers_are_passed_over(self) -> None:
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
        assert await exchange(interim + WHOLE) == (200, b"hello", True)

    async def test_engine_may_ask_for_the_end_of_the_connection(self) -> None:
        closing = WHOLE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        assert await exchange(closing) == (200, b"hello", False)

    @given(st.sampled_from([WHOLE, HEAD + CHUNKS]), st.lists(st.integers(0, 80), max_size=12))
    def test_any_pieces_are_the_same(self, data: bytes, cuts: list[int]) -> None:
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        pieces = [data[start:end] for start, end in itertools.pairwise(edges) if start < end]
        body = data.split(b"\r\n\r\n", 1)[1]
        assert asyncio.run(exchange(*pieces)) == (200, body, True)

    async def test_one_exchange_after_the_other(self) -> None:
        wire = Wire()
        for number in range(1, 4):
            asking = wire.ask()
            wire.say(WHOLE)
            await asking
            received: list[bytes] = []
            await wire.connection.relay(received.append)
            assert (received, wire.connection.exchanges) == ([b"hello"], number)
        assert wire.sent == b"request" * 3

    async def test_answer_to_half_a_request_is_the_last_one(self) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(WHOLE)
        await asking
        assert wire.connection.reusable
        wire.unsent = 1
        assert not wire.connection.reusable


class TestHereAsAWhole:
    async def whole(self, *pieces: bytes) -> tuple[bytes | None, bool]:
        """What is had at once, when the head is here, and whether another exchange may follow."""
        wire = Wire()
        asking = wire.ask()
        wire.say(*pieces)
        await asking
        whole = wire.connection.whole()
        return whole, wire.connection.reusable

    async def test_what_is_here_with_its_length_is_had_at_once(self) -> None:
        assert await self.whole(WHOLE) == (b"hello", True)
        assert await self.whole(WHOLE[:-5], b"he", b"llo") == (b"hello", True)
        assert await self.whole(WHOLE[:-5].replace(b"5", b"0")) == (b"", True)

    @pytest.mark.parametrize("pieces", [(WHOLE[:-1],), (HEAD, CHUNKS), (HEAD,)])
    async def test_all_else_is_to_be_relayed(self, pieces: tuple[bytes, ...]) -> None:
        assert (await self.whole(*pieces))[0] is None

    async def test_nothing_is_left_of_it(self) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(WHOLE)
        await asking
        assert wire.connection.whole() == b"hello"
        assert not wire.connection.begun

    async def test_more_than_its_length_is_broken(self) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(WHOLE + b"!")
        await asking
        with pytest.raises(BadResponse):
            await wire.connection.relay(None)
        assert wire.connection.whole() is None


class Threes(asyncio.Protocol):
    """Takes chunks with a 3, where chunks begin."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.heard_at = 0.0
        self.taken = 0

    def data_received(self, data: bytes) -> None:
        if data == b"1\r\n3\r\n" and self.connection.between_chunks:
            self.taken += 1
            self.heard_at = asyncio.get_running_loop().time()
        else:
            self.connection.data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.connection_lost(exc)


class TestDiverted:
    async def begun(self, head: bytes = HEAD) -> tuple[Wire, list[bytes], "asyncio.Future[None]"]:
        """An exchange whose body is on its way, the content that comes, and its end."""
        wire, content = Wire(), list[bytes]()
        asking = wire.ask()
        wire.say(head)
        await asking
        return wire, content, wire.connection.relay(None, content.append)

    async def test_who_stands_in_front_takes_what_it_likes(self) -> None:
        wire, content, end = await self.begun()
        wire.connection.divert(Threes)
        threes = wire.hears
        three = b"1\r\n3\r\n"
        wire.say(b"1\r\n1\r\n", b"1\r\n", b"2\r\n", three, b"6\r\n", three, b"\r\n", three, b"0\r\n\r\n")
        await end
        assert isinstance(threes, Threes) and threes.taken == 2
        assert b"".join(content) == b"12" + three

    async def test_the_next_exchange_is_heard_by_the_connection_itself(self) -> None:
        wire, content, end = await self.begun()
        wire.connection.divert(Threes)
        wire.say(b"1\r\n3\r\n", b"1\r\n4\r\n", b"0\r\n\r\n")
        await end
        assert (content, wire.hears, wire.connection.reusable) == ([b"4"], wire.connection, True)

    async def test_loss_comes_to_who_waits(self) -> None:
        wire, _, end = await self.begun()
        wire.connection.divert(Threes)
        wire.hang_up(OSError("reset"))
        with pytest.raises(ConnectionLost):
            await end
        assert wire.lost == [wire.connection]

    async def test_nobody_stands_in_front_of_what_has_ended(self) -> None:
        wire, _, end = await self.begun(WHOLE)
        wire.connection.divert(Threes)
        await end
        assert wire.hears is wire.connection

    async def test_bodies_without_chunks_are_never_between_them(self) -> None:
        wire, _, _ = await self.begun(WHOLE[:-1])
        assert not wire.connection.between_chunks

    async def test_silence_begins_anew_with_what_was_taken(self) -> None:
        wire, _, end = await self.begun()
        wire.connection.bear(0.2)
        wire.connection.divert(Threes)
        await asyncio.sleep(0.1)
        heard = asyncio.get_running_loop().time()
        wire.say(b"1\r\n3\r\n")
        with pytest.raises(ConnectionSilent):
            await end
        assert asyncio.get_running_loop().time() - heard > 0.19


class TestOrder:
    async def test_first_byte_of_the_body_can_be_waited_for(self) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(HEAD)
        assert (await asking).status == 200
        beginning = asyncio.get_running_loop().create_task(wire.connection.begin())
        await asyncio.sleep(0)
        assert not beginning.done(), "an engine that dies now has answered nothing"
        wire.say(b"5")
        await beginning
        await wire.connection.begin()

    @pytest.mark.parametrize("answer", [WHOLE, b"HTTP/1.1 204 x\r\n\r\n"])
    async def test_body_that_is_here_is_not_waited_for(self, answer: bytes) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(answer)
        await asking
        await wire.connection.begin()

    async def test_body_that_ends_with_the_connection_may_be_empty(self) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(b"HTTP/1.0 200 OK\r\n\r\n")
        await asking
        beginning = asyncio.get_running_loop().create_task(wire.connection.begin())
        await asyncio.sleep(0)
        assert not beginning.done()
        wire.hang_up()
        await beginning
        received: list[bytes] = []
        await wire.connection.relay(received.append)
        assert received == []

    @pytest.mark.parametrize("how", [BadResponse, ConnectionLost])
    async def test_body_that_never_begins(self, how: type[Exception]) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(HEAD)
        await asking
        beginning = asyncio.get_running_loop().create_task(wire.connection.begin())
        await asyncio.sleep(0)
        wire.hang_up(None if how is BadResponse else ConnectionResetError())
        with pytest.raises(how):
            await beginning

    @pytest.mark.parametrize("answer", [WHOLE + b"x", HEAD + b"nonsense\r\n"])
    async def test_body_that_is_malformed_from_its_first_byte_has_not_begun(self, answer: bytes) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(answer)
        await asking
        with pytest.raises(BadResponse):
            await wire.connection.begin()

    async def test_pause_ends_with_the_exchange(self) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.connection.pause()
        wire.say(WHOLE)
        await asking
        wire.ask()
        assert wire.reading, "or the next answer would never be read"

    async def test_body_that_nobody_relays_is_not_read_for_ever(self) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x" * 100_000] * 3)
        await asking
        before = wire.reading
        relaying = wire.connection.relay(lambda data: None)
        assert (before, wire.reading) == (False, True)
        wire.hang_up()
        await relaying

    async def test_something_can_be_added_where_chunks_broke_off(self) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(HEAD, b"5\r\nhe")
        await asking
        assert wire.connection.insert(b"<error>") == b"<er\r\n4\r\nror>\r\n"
        wire.say(b"llo\rX")
        assert wire.connection.insert(b"<error>") == b"", "it is not known where the body is"
        asking = (long := Wire()).ask()
        long.say(WHOLE[:-1])
        await asking
        assert long.connection.insert(b"<error>") == b""

    async def test_what_came_early_is_handed_on_first(self) -> None:
        wire = Wire()
        asking = wire.ask()
        wire.say(HEAD, b"5\r\nhe")
        await asking
        received: list[bytes] = []
        relaying = wire.connection.relay(received.append)
        wire.say(b"llo\r\n", b"0\r\n\r\n")
        await relaying
        assert received == [b"5\r\nhe", b"llo\r\n", b"0\r\n\r\n"]

    async def test_reading_can_wait(self) -> None:
        wire = Wire()
        seen = []
        for told in (wire.connection.pause, wire.connection.resume, wire.abort, wire.connection.pause):
            told()
            seen.append(wire.reading)
        assert seen == [False, True, True, True], "nothing is asked of a closed transport"


class TestBroken:
    async def failure(self, pieces: Iterable[bytes], error: Exception | None = None) -> Exception:
        """What is told of an exchange in which this came, and then the end."""
        wire = Wire()
        asking = wire.ask()
        wire.say(*pieces)
        if not wire.closed:
            wire.hang_up(error)
        try:
            await asking
            await wire.connection.relay(lambda data: None)
        except (ConnectionLost, BadResponse) as told:
            assert not wire.connection.reusable
            assert wire.closed
            return told
        raise AssertionError("it went well")

    @pytest.mark.parametrize(
        ("pieces", "heard"), [((), False), ((b"HTT",), True), ((HEAD,), True), ((b"HTTP/1.1 100 x\r\n\r\n",), True)]
    )
    async def test_connection_that_ends_before_the_answer(self, pieces: tuple[bytes, ...], heard: bool) -> None:
        lost = await self.failure(pieces)
        if pieces == (HEAD,):
            assert isinstance(lost, BadResponse)
        else:
            assert isinstance(lost, ConnectionLost)
            assert lost.heard is heard

    @pytest.mark.parametrize(
        "head", [HEAD, b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"]
    )
    async def test_body_that_is_cut_here_is_not_whole(self, head: bytes) -> None:
        """Not even one that the engine ends by closing the connection."""
        wire = Wire()
        asking = wire.ask()
        wire.say(head, b"5\r\n12")
        await asking
        end = wire.connection.relay(None)
        wire.connection.abort()
        with pytest.raises(ConnectionLost):
            await end

    async def test_connection_that_breaks(self) -> None:
        lost = await self.failure((HEAD, b"5\r\nhe"), ConnectionResetError("reset by peer"))
        assert isinstance(lost, ConnectionLost)
        assert str(lost) == "reset by peer"

    @pytest.mark.parametrize(
        "pieces",
        [
            (b"garbage\r\n\r\n",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",),
            (HEAD, b"5\r\nhel"),
            (HEAD, b"5\r\nhello\r\n"),
            (HEAD, b"nonsense\r\n"),
            (WHOLE + b"x",),
            (HEAD + CHUNKS + WHOLE,),
            (b"HTTP/1.1 204 x\r\n\r\nbody",),
            (b"HTTP/1.1 101 Switching\r\n\r\n",),
            (b"HTTP/1.1 100 x\r\n\r\n" * 9 + WHOLE,),
            (b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD,),
            (b"HTTP/1.1 200 OK\r\nX: " + b"y" * MAX_HEAD + b"\r\n\r\n",),
        ],
    )
    async def test_answer_that_is_malformed(self, pieces: tuple[bytes, ...]) -> None:
        assert isinstance(await self.failure(pieces), BadResponse)

    async def test_bytes_that_nobody_asked_for_end_the_connection(self) -> None:
        wire = Wire()
        wire.say(b"hello?")
        assert wire.closed
        asking = (used := Wire()).ask()
        used.say(WHOLE)
        await asking
        used.say(b"and another thing")
        assert used.closed

    async def test_nothing_is_asked_of_a_closed_connection(self) -> None:
        (wire := Wire()).hang_up()
        assert wire.lost == [wire.connection]
        with pytest.raises(ConnectionLost) as caught:
            await wire.connection.ask(b"request")
        assert not caught.value.heard

    async def test_end_that_nobody_waits_for_disturbs_nobody(self) -> None:
        wire = Wire()
        asking = wire.ask()
        asking.cancel()
        wire.hang_up()
        await asyncio.sleep(0)
        assert asking.cancelled()
