"""Events with a part of the answer, and those of one token each: what is told of them without parsing."""

import pytest

from llamaproxy.core.deltas import NEVER, UNKNOWN, Deltas, Like
from llamaproxy.core.routing import Dialect

CHAT = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"%b"}}]}\n\n'
NATIVE = b'data: {"index":0,"content":"%b","tokens":[%b],"stop":false}\n\n'
TOLD_LATER = b'data: {"choices":[{"delta":{"content":"a"},"index":0,"finish_reason":null}]}\n\n'


def like(event: bytes, dialect: Dialect = Dialect.OPENAI) -> Like:
    return Deltas(dialect).like(event)


@pytest.mark.parametrize(
    ("dialect", "event", "has"),
    [
        (Dialect.OPENAI, CHAT % b"a", True),
        (Dialect.OPENAI, CHAT % b"", False),
        (Dialect.OPENAI, CHAT.replace(b"content", b"reasoning_content") % b"a", True),
        (Dialect.OPENAI, b'data: {"choices":[{"text": "a"}]}\n\n', True),
        (Dialect.OPENAI, b'data: {"choices":[{"delta":{"content":null}}]}\n\n', False),
        (Dialect.OPENAI, b': "content":"a"\n\n', False),
        (Dialect.OPENAI, b"data: [DONE]\n\n", False),
        (Dialect.NATIVE, NATIVE % (b"a", b"7"), True),
        (Dialect.NATIVE, NATIVE % (b"", b""), False),
        (Dialect.ANTHROPIC, b"event: content_block_delta\ndata: {}\n\n", True),
        (Dialect.ANTHROPIC, b'data: {"type":"content_block_delta"}\n\n', True),
        (Dialect.ANTHROPIC, b'event: message_start\ndata: {"content":"a"}\n\n', False),
        (Dialect.RESPONSES, b"event: response.output_text.delta\ndata: {}\n\n", True),
        (Dialect.RESPONSES, b"event: response.completed\ndata: {}\n\n", False),
    ],
)
def test_content_is_known_by_how_it_is_spelled(dialect: Dialect, event: bytes, has: bool) -> None:
    assert Deltas(dialect).has_content(event) is has


def test_events_like_one_that_was_seen_are_counted_together() -> None:
    chat, native = like(CHAT % b"a"), like(NATIVE % (b"a", b"7"), Dialect.NATIVE)
    assert chat.events(CHAT % b"a") == 1
    assert chat.events(CHAT % b"a" + CHAT % b"b" + CHAT % b"c") == 3
    assert native.events(NATIVE % (b"a", b"7") + NATIVE % (b"b", b"8")) == 2
    assert like(TOLD_LATER).events(TOLD_LATER * 2) == 2


@pytest.mark.parametrize(
    "odd",
    [
        CHAT % b"",
        (CHAT % b"a")[1:],
        (CHAT % b"a").replace(b'"index":0', b'"index":1'),
        (CHAT % b"a").replace(b"null", b'"stop"'),
        (CHAT % b"a").replace(b"]}\n", b'],"usage":{}}\n'),
        (CHAT % b"a").replace(b"\n\n", b"\r\n\r\n"),
        b": waiting\n\n",
        b"data: [DONE]\n\n",
        b"\n\n",
    ],
)
def test_none_is_counted_where_one_of_them_may_be_another(odd: bytes) -> None:
    chat = like(CHAT % b"a")
    for together in (odd, CHAT % b"a" + odd, odd + CHAT % b"a"):
        assert chat.events(together) == 0


def test_nor_where_the_last_one_has_not_come_whole() -> None:
    for cut in (b"data", b"data: {}\n", (CHAT % b"b")[:-1]):
        assert like(CHAT % b"a").events(CHAT % b"a" + cut) == 0


def test_marks_that_follow_the_content_are_in_every_one() -> None:
    seen = like(TOLD_LATER)
    assert seen.marks
    assert seen.events(TOLD_LATER + TOLD_LATER.replace(b'"index":0', b'"index":1')) == 0


@pytest.mark.parametrize("together", [b"", b"\n\n", CHAT % b"a", b"event: content_block_delta\n\n"])
def test_nothing_is_like_what_is_not_known(together: bytes) -> None:
    assert UNKNOWN.events(together) == 0
    assert like(b"event: content_block_delta\ndata: {}\n\n", Dialect.ANTHROPIC) == UNKNOWN


def test_a_beginning_may_tell_that_an_event_goes_on() -> None:
    assert like(CHAT % b"a").going_on == CHAT[: CHAT.index(b"%b")]
    assert like(TOLD_LATER).going_on == NEVER
    assert like((CHAT % b"a").replace(b"null", b'"stop"')).going_on == NEVER
    assert like((CHAT % b"a").replace(b'"index":0,', b"").replace(b"}}", b'},"index":0}')).going_on == NEVER
    assert UNKNOWN.going_on == NEVER
