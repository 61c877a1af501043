"""llamaproxy.backends.output: any bytes in, the last lines out, in bounded time and memory."""

import time
import tracemalloc

import pytest

from llamaproxy.backends.output import LINE_BYTES, LINES_KEPT, OutputLog


def read(*blocks: bytes) -> list[str]:
    log = OutputLog()
    for block in blocks:
        log.feed(block)
    log.finish()
    return log.tail(LINES_KEPT)


def test_lines_in_their_order() -> None:
    assert read(b"one\ntwo\nthree\n") == ["one", "two", "three"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 4095, 4096, 4097, 65536])
def test_where_blocks_begin_and_end_makes_no_difference(size: int) -> None:
    lines = [b"one", b"", b"two\r", b"x" * (LINE_BYTES - 1), b"y" * (LINE_BYTES + 1), "zwölf".encode(), b"end"]
    text = b"\n".join(lines)
    blocks = [text[at : at + size] for at in range(0, len(text), size)]
    assert read(*blocks) == ["one", "", "two", "x" * (LINE_BYTES - 1), "y" * LINE_BYTES, "zwölf", "end"]


def test_an_unfinished_line_is_a_line_once_the_pipe_is_closed() -> None:
    log = OutputLog()
    log.feed(b"half a li")
    assert log.tail(5) == []
    log.finish()
    log.finish()
    assert log.tail(5) == ["half a li"]


def test_nothing_printed_is_nothing_kept() -> None:
    assert read() == read(b"") == []


def test_a_long_line_is_cut_and_the_next_is_whole() -> None:
    assert read(b"a" * 10_000, b"b" * 10_000 + b"\nnext\n") == ["a" * LINE_BYTES, "next"]


def test_of_many_lines_the_last_are_kept() -> None:
    lines = [f"line {number}" for number in range(3 * LINES_KEPT)]
    assert read("\n".join(lines).encode()) == lines[-LINES_KEPT:]


@pytest.mark.parametrize("extra", [-1, 0, 1, 2, LINES_KEPT])
def test_a_block_of_more_lines_than_are_kept_is_cut_between_lines(extra: int) -> None:
    lines = [f"{number}" for number in range(LINES_KEPT + extra)]
    assert read(b"first\n" + "".join(f"{line}\n" for line in lines).encode()) == ["first", *lines][-LINES_KEPT:]


def test_100_megabytes_without_a_newline_cost_neither_time_nor_memory() -> None:
    log = OutputLog()
    block = b"x" * 65536
    tracemalloc.start()
    began = time.process_time()
    for _ in range(100 * 2**20 // len(block)):
        log.feed(block)
    took = time.process_time() - began
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    log.feed(b"\nalive\n")
    assert took < 1.0
    assert peak < 2**20
    assert log.tail(9) == ["x" * LINE_BYTES, "alive"]


def test_what_comes_after_the_last_newline_of_a_large_block_is_not_all_kept() -> None:
    log = OutputLog()
    tracemalloc.start()
    log.feed(b"\n" + b"x" * 10 * 2**20)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2**20


def test_100_megabytes_of_lines_are_read_faster_than_an_engine_prints() -> None:
    log = OutputLog()
    block = b"srv  update_slots: all slots are idle\n" * 1700
    began = time.process_time()
    for _ in range(100 * 2**20 // len(block)):
        log.feed(block)
    assert time.process_time() - began < 20.0
    assert len(log.tail(10**6)) == LINES_KEPT


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        (b"10 %\r20 %\r30 %\n", r"10 %\x0d20 %\x0d30 %"),
        (b"windows\r\n", "windows"),
        (b"a\tb", "a\tb"),
        (b"\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        (b"bell\x07 nul\x00 del\x7f end", r"bell\x07 nul\x00 del\x7f end"),
        ("c1 \x9b31m csi".encode(), r"c1 \x9b31m csi"),
        (b"trailing blanks  \t \n", "trailing blanks"),
        ("grüße 🦙".encode(), "grüße 🦙"),
        (b"\xff\xfe\x80junk", "\ufffd\ufffd\ufffdjunk"),
    ],
)
def test_what_a_terminal_would_act_on_is_spelled_out(printed: bytes, kept: str) -> None:
    assert read(printed) == [kept]


def test_every_single_byte_can_be_printed() -> None:
    lines = read(bytes(range(256)) * 100)
    assert lines
    assert all(character == "\t" or character.isprintable() for line in lines for character in line)


def test_a_character_cut_in_two_by_the_bound_does_not_hurt() -> None:
    [line] = read("ü".encode() * LINE_BYTES)
    assert line == "ü" * (LINE_BYTES // 2)
    [line] = read(b"x" + "ü".encode() * LINE_BYTES)
    assert line.endswith("ü\ufffd")


def test_the_tail_is_the_last_lines_oldest_first() -> None:
    log = OutputLog()
    log.feed(b"1\n2\n3\n")
    assert [log.tail(count) for count in (0, 1, 2, 3, 99)] == [[], ["3"], ["2", "3"], ["1", "2", "3"], ["1", "2", "3"]]


def test_blocks_count_as_signs_of_life_even_without_a_line() -> None:
    log = OutputLog()
    for _ in range(3):
        log.feed(b".")
    assert log.blocks == 3


@pytest.mark.parametrize(
    ("printed", "error"),
    [
        (b"", ""),
        (b"loading\nloaded\n", "loaded"),
        (b"0.00.1 E srv  load_model: no such file\ncleaning up\nbye\n", "0.00.1 E srv  load_model: no such file"),
        (b"first error\nsecond error\ndone\n", "second error"),
        (b"ggml_abort: it ends here\nat 0x1234\n", "ggml_abort: it ends here"),
        (
            b"terminate called after throwing an EXCEPTION\n  what(): x\n",
            "terminate called after throwing an EXCEPTION",
        ),
        (b"failed to open\n" + b"x\n" * 60, "x"),
    ],
)
def test_the_last_error_is_the_last_recent_line_that_looks_like_one(printed: bytes, error: str) -> None:
    log = OutputLog()
    log.feed(printed)
    assert log.last_error() == error


def test_who_listens_hears_every_line_once_as_it_is_kept() -> None:
    log = OutputLog()
    heard: list[str] = []
    log.told = heard.append
    for block in (b"1\n2\x1b", b"\n", b"3"):
        log.feed(block)
    log.finish()
    assert heard == ["1", r"2\x1b", "3"] == log.tail(9)
