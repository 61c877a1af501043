"""Which connection the next exchange gets."""

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from llamaproxy.backends.connections import MAX_EXCHANGES, MAX_IDLE, Connections
from llamaproxy.backends.lost import ConnectionLost
from llamaproxy.backends.wire import Connection
from llamaproxy.core.response import BadResponse, Head
from llamaproxy.tasks import spawn
from tests.backends.scripted import ASK, OK, Scripted


def connections(engine: Scripted, max_idle: float = MAX_IDLE) -> Connections:
    loop = asyncio.get_running_loop()
    return Connections(functools.partial(loop.create_unix_connection, path=str(engine.path)), max_idle)


@asynccontextmanager
async def exchange(pool: Connections) -> AsyncIterator[tuple[Connection, Head]]:
    connection, head = await pool.ask((ASK,))
    try:
        yield connection, head
    finally:
        pool.give_back(connection)


async def ask(pool: Connections) -> bytes:
    received: list[bytes] = []
    async with exchange(pool) as (connection, _):
        await connection.relay(received.append)
    return b"".join(received)


async def test_connection_is_used_again() -> None:
    async with Scripted(lambda number: OK).running() as engine:
        pool = connections(engine)
        for _ in range(10):
            assert await ask(pool) == b"ok"
        assert (engine.connections, engine.requests, len(pool)) == (1, 10, 1)


async def test_several_at_once_and_the_last_one_first_again() -> None:
    async with Scripted(lambda number: OK).running() as engine:
        pool = connections(engine)
        async with exchange(pool) as (first, _):
            async with exchange(pool) as (second, _):
                await second.relay(lambda data: None)
            await first.relay(lambda data: None)
        async with exchange(pool) as (again, _):
            assert again is first
            await again.relay(lambda data: None)
        assert engine.connections == 2


async def test_it_is_left_alone_before_the_engine_closes_it() -> None:
    async with Scripted(lambda number: OK).running() as engine:
        pool = connections(engine)
        for _ in range(MAX_EXCHANGES + 1):
            await ask(pool)
        assert engine.connections == 2
        impatient = connections(engine, max_idle=-1)
        for _ in range(3):
            await ask(impatient)
        assert engine.connections == 5


async def test_close_in_the_moment_of_reuse_is_nobodys_failure() -> None:
    async with Scripted(lambda number: OK if number == 1 else None).running() as engine:
        pool = connections(engine)
        for _ in range(200):
            assert await ask(pool) == b"ok"
        assert engine.connections == 200


async def test_new_connection_that_closes_is_told() -> None:
    async with Scripted(lambda number: None).running() as engine:
        with pytest.raises(ConnectionLost):
            await ask(connections(engine))
        assert engine.requests == 1


async def test_request_that_was_partly_answered_is_not_sent_again() -> None:
    script = {1: OK, 2: b"HTTP/1.1 200 OK\r\nX: nonsense \x00\r\n\r\n"}
    async with Scripted(script.get).running() as engine:
        pool = connections(engine)
        await ask(pool)
        with pytest.raises(BadResponse):
            await ask(pool)
        assert engine.requests == 2


async def test_leaving_early_closes_the_connection() -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with Scripted(lambda number: endless).running() as engine:
        pool = connections(engine)
        async with exchange(pool):
            pass
        await asyncio.wait_for(engine.gone.wait(), 5)
        assert len(pool) == 0


async def test_leaving_before_the_answer_closes_the_connection() -> None:
    async with Scripted(lambda number: b"").running() as engine:
        pool = connections(engine)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), exchange(pool):
                pass
        await asyncio.wait_for(engine.gone.wait(), 5)


async def test_nobody_listens() -> None:
    engine = Scripted(lambda number: OK)
    with pytest.raises(ConnectionLost, match="No such file"):
        await ask(connections(engine))


async def test_closing_ends_what_is_going_on_and_begins_nothing() -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with Scripted(lambda number: endless).running() as engine:
        pool = connections(engine)
        with pytest.raises((ConnectionLost, BadResponse)):
            async with exchange(pool) as (connection, _):
                pool.close()
                await connection.relay(lambda data: None)
        with pytest.raises(ConnectionLost, match="being stopped"):
            await ask(pool)
        assert engine.connections == 1


async def test_retiring_lets_answers_end_that_have_begun() -> None:
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    async with Scripted(lambda number: endless if number == 1 else b"").running() as engine:
        pool = connections(engine)
        received: list[bytes] = []
        async with exchange(pool) as (connection, _):
            waiting = spawn(silently_asked(pool), name="waiting")
            await asyncio.sleep(0.05)
            pool.retire()
            with pytest.raises(ConnectionLost):
                await waiting
            relaying = connection.relay(received.append)
            assert (received, len(pool)) == ([b"5\r\nhello\r\n"], 1)
            relaying.cancel()
        assert len(pool) == 0
        with pytest.raises(ConnectionLost):
            await ask(pool)


async def silently_asked(pool: Connections) -> None:
    """A request that is never answered: the script says nothing to the second one of a connection."""
    async with Scripted(lambda number: b"").running() as silent:
        loop = asyncio.get_running_loop()
        pool._connect = functools.partial(loop.create_unix_connection, path=str(silent.path))
        async with exchange(pool):
            pass
