"""llamaproxy.telemetry.console: a log that nobody reads stops nobody."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator

import pytest

from llamaproxy.telemetry import console
from llamaproxy.telemetry.console import ConsoleHandler
from tests.gateway import until

Pipe = tuple[int, int]
MORE_THAN_A_PIPE_HOLDS = 400
"""Lines of a kilobyte: a pipe takes 64 KiB."""


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """Its two ends, for reading and for writing."""
    ends = os.pipe()
    yield ends
    for end in ends:
        with contextlib.suppress(OSError):
            os.close(end)


def record(message: str) -> logging.LogRecord:
    return logging.LogRecord("llamaproxy", logging.INFO, "file", 1, message, (), None)


def read_all(descriptor: int) -> str:
    """Everything until nobody writes any more."""
    return b"".join(iter(lambda: os.read(descriptor, 65536), b"")).decode()


def test_lines_arrive_in_their_order(pipe: Pipe) -> None:
    handler = ConsoleHandler(pipe[1])
    for number in range(100):
        handler.emit(record(f"line {number}"))
    handler.close()
    os.close(pipe[1])
    assert read_all(pipe[0]).splitlines() == [f"line {number}" for number in range(100)]


async def test_pipe_that_nobody_reads_costs_lines_and_nothing_else(pipe: Pipe) -> None:
    handler = ConsoleHandler(pipe[1], most=10)
    for _ in range(MORE_THAN_A_PIPE_HOLDS):
        handler.emit(record("x" * 1023))
    await until(lambda: handler.dropped > 0, "lines are dropped")
    lost = handler.dropped
    assert lost >= MORE_THAN_A_PIPE_HOLDS - 64 - 10 - 2
    os.set_blocking(pipe[0], False)
    text = ""

    def read() -> bool:
        nonlocal text
        with contextlib.suppress(BlockingIOError):
            text += os.read(pipe[0], 65536).decode()
        # A writer that the machine holds up may lose some before the pipe is full: it tells of them apart.
        return sum(map(int, re.findall(r"llamaproxy: (\d+) lines of the log were lost here", text))) == lost

    await until(read, "somebody who reads again learns how many lines were lost")
    handler.close()


async def test_descriptor_that_does_not_wait_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe[1], False)
    handler = ConsoleHandler(pipe[1])
    for _ in range(MORE_THAN_A_PIPE_HOLDS):
        handler.emit(record("x" * 1023))
    os.set_blocking(pipe[0], False)
    count = 0

    def read() -> bool:
        nonlocal count
        with contextlib.suppress(BlockingIOError):
            count += len(os.read(pipe[0], 65536))
        return count == MORE_THAN_A_PIPE_HOLDS * 1024

    await until(read, "all of it is there")
    assert handler.dropped == 0
    handler.close()


def test_reader_that_has_gone_is_no_failure(pipe: Pipe) -> None:
    os.close(pipe[0])
    handler = ConsoleHandler(pipe[1])
    handler.emit(record("x"))
    handler.close()
    assert handler.dropped == 1


def test_what_is_no_text_is_spelled_out(pipe: Pipe) -> None:
    handler = ConsoleHandler(pipe[1])
    handler.emit(record("\udc80"))
    handler.close()
    os.close(pipe[1])
    assert read_all(pipe[0]) == "\\udc80\n"


def test_what_all_consoles_lost_is_known(pipe: Pipe) -> None:
    handler = ConsoleHandler(pipe[1])
    handler.dropped = 3
    logging.getLogger().addHandler(handler)
    try:
        assert console.dropped() == 3
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert console.dropped() == 0
