"""The event that only the gateway asked for is gone, everything else is there, byte for byte, and framed."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaproxy.core.sse import parse
from llamaproxy.core.stripping import (
    MAX_EXTRA,
    TimingsStripper,
    Unasked,
    UsageStripper,
    is_extra,
    stripper,
    without_timings,
)

from . import recorded
from .recorded import ALL, CUTS, Recording, pieces, single
from .test_sse import collected

WITH_USAGE = [recording for recording in recorded.STREAMS if "usage" in recording.name]
OTHERS = [recording for recording in recorded.STREAMS if "usage" not in recording.name]
ASKED = ("chat-emoji-timings", "chat-emoji-left", "chat-progress")
"""Somebody has asked for the timings of each token."""
EXTRA = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'


def stripped(parts: list[bytes]) -> bytes:
    stripper = UsageStripper()
    return b"".join([*map(stripper.through, parts), stripper.rest()])


def expected(stream: bytes) -> bytes:
    """Told in another way: by what the text of an event has in it."""
    events = [event + b"\n\n" for event in stream.split(b"\n\n")[:-1]]
    return b"".join(event for event in events if not event.startswith(b'data: {"choices":[],'))


class TestContent:
    @pytest.mark.parametrize("recording", WITH_USAGE, ids=lambda recording: recording.name)
    @given(cuts=CUTS)
    @settings(max_examples=30)
    def test_the_event_is_gone_and_nothing_else(self, recording: Recording, cuts: list[int]) -> None:
        assert stripped(pieces(recording.content, cuts)) == expected(recording.content) != recording.content

    @pytest.mark.parametrize("end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
    def test_line_ends_make_no_difference(self, end: bytes) -> None:
        content = ALL["chat-usage"].content
        for parts in ([content.replace(b"\n", end)], single(content.replace(b"\n", end))):
            told = [parse(block) for block in collected([stripped(parts)]).blocks]
            assert told == [parse(block) for block in collected([expected(content)]).blocks]

    @pytest.mark.parametrize("recording", OTHERS, ids=lambda recording: recording.name)
    def test_streams_without_it_are_not_changed(self, recording: Recording) -> None:
        assert stripped([recording.content]) == stripped(single(recording.content)) == recording.content

    @given(st.binary(max_size=300), CUTS)
    def test_what_is_no_stream_is_not_changed(self, data: bytes, cuts: list[int]) -> None:
        assert stripped(pieces(data, cuts)) == data

    def test_whole_events_are_never_held_back(self) -> None:
        stripper = UsageStripper()
        for block in collected([ALL["chat-usage"].content]).blocks:
            head, last = block[:-1], block[-1:]
            assert stripper.through(head) == b""
            assert stripper.through(last) == (b"" if is_extra(block) else block)
            assert not stripper.held

    def test_large_events_are_not_held_back_either(self) -> None:
        stripper, large = UsageStripper(), b"data: " + b"x" * MAX_EXTRA * 3
        passed = stripper.through(large)
        assert len(large) - len(passed) <= 3
        assert passed + stripper.through(b'"usage"\n\n' + EXTRA) == large + b'"usage"\n\n'

    @pytest.mark.parametrize(
        "data",
        [
            b'{"choices":[{"text":""}],"usage":{"prompt_tokens":1}}',
            b'{"choices":[],"usage":null}',
            b'{"choices":[]}',
            b'{"usage":{"prompt_tokens":1}}',
            b'{"type":"message_delta","usage":{"output_tokens":3}}',
            b'["usage"]',
            b'"usage"',
            b"[DONE]",
        ],
    )
    def test_events_with_anything_else_in_them_stay(self, data: bytes) -> None:
        assert not is_extra(b"data: " + data + b"\n\n")


class TestTimings:
    EVENT = b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"%b"}}]}\n\n'
    TIMINGS = b',"timings":{"cache_n":55,"prompt_ms":161.575,"predicted_per_second":1e+06}'

    def stripped(self, parts: list[bytes]) -> bytes:
        stripper = TimingsStripper()
        return b"".join([*map(stripper.through, parts), stripper.rest()])

    @pytest.mark.parametrize("name", ["chat-emoji-timings", "chat-emoji-left"])
    @given(cuts=CUTS)
    @settings(max_examples=30)
    def test_they_are_gone_of_all_events_but_the_last_and_nothing_else(self, name: str, cuts: list[int]) -> None:
        """Told in another way: by what is in the documents."""
        content = ALL[name].content
        out = self.stripped(pieces(content, cuts))
        documents = []
        for before, after in zip(collected([content]).blocks, collected([out]).blocks, strict=True):
            told, kept = parse(before), parse(after)
            assert told and kept
            if told.data == b"[DONE]":
                assert after == before
                continue
            document = json.loads(told.data)
            if document["choices"][0]["finish_reason"] is None:
                document.pop("timings", None)
            assert list(json.loads(kept.data).items()) == list(document.items())
            documents.append(document)
        assert any("timings" in document for document in documents) == (not ALL[name].left)

    @pytest.mark.parametrize("name", ["chat-emoji-timings", "chat-emoji-left"])
    def test_events_that_come_one_by_one_are_as_those_that_come_together(self, name: str) -> None:
        content = ALL[name].content
        assert self.stripped(collected([content]).blocks) == self.stripped([content]) != content

    @pytest.mark.parametrize(
        "odd",
        [
            EVENT[:-3] + TIMINGS + b',"id":"x"}\n\n',
            EVENT[:-3] + TIMINGS + b',"x":{}}\n\n',
            EVENT[:-3] + TIMINGS + b"}\ndata:\n\n",
            EVENT[:-3] + TIMINGS[:-1] + b"\n\n}}\n\n",
            EVENT[:-3] + TIMINGS + b"}\n\n" + EVENT[:-3] + TIMINGS + b"}\n\n",
            b": waiting\n\n" + EVENT[:-3] + TIMINGS + b"}\n\n",
            EVENT[:-3].replace(b"null", b'"stop"') + TIMINGS + b"}\n\n",
            EVENT.replace(b"%b", TIMINGS.replace(b'"', b'\\"')),
        ],
    )
    def test_what_is_not_as_usual_loses_no_more(self, odd: bytes) -> None:
        assert self.stripped([odd]) == b"".join(map(without_timings, collected([odd]).blocks))

    def test_an_event_that_was_begun_before_is_taken_whole(self) -> None:
        whole = self.EVENT[:-3] + self.TIMINGS + b"}\n\n"
        for cut in range(1, len(whole)):
            assert self.stripped([whole[:cut], whole[cut:] + whole]) == 2 * self.EVENT, cut
        assert self.stripped([b": ", whole]) == b": " + self.EVENT

    @pytest.mark.parametrize(
        "recording",
        [r for r in recorded.STREAMS if r.name not in ASKED and r.name != "chat-stop"],
        ids=lambda recording: recording.name,
    )
    def test_what_an_engine_sends_unasked_stays(self, recording: Recording) -> None:
        assert self.stripped([recording.content]) == recording.content

    def test_of_what_was_held_back_for_a_stop_word_the_end_tells_them(self) -> None:
        """llama-server sends it with the end, and says the same in both."""
        before, after = ALL["chat-stop"].content, self.stripped([ALL["chat-stop"].content])
        assert (before.count(b'"timings"'), after.count(b'"timings"')) == (2, 1)
        assert before.rsplit(b"\n\n", 3)[1:] == after.rsplit(b"\n\n", 3)[1:]

    def test_of_responses_they_are_in_the_deltas(self) -> None:
        delta = b'event: response.%b\ndata: {"type":"response.%b","delta":"a"%b}\n\n'
        for name in (b"output_text.delta", b"reasoning_text.delta", b"function_call_arguments.delta"):
            assert without_timings(delta % (name, name, self.TIMINGS)) == delta % (name, name, b"")
        last = delta % (b"completed", b"completed", self.TIMINGS)
        assert without_timings(last) is last

    def test_a_text_that_looks_like_them_stays(self) -> None:
        text = self.EVENT % json.dumps(self.TIMINGS.decode())[1:-1].encode()
        assert without_timings(text) is text
        assert without_timings(text[:-3] + self.TIMINGS + b"}\n\n") == text

    def test_who_is_for_what(self) -> None:
        assert [type(stripper(unasked)) for unasked in Unasked] == [UsageStripper, TimingsStripper]
