"""Tokens of recorded answers are those that the engine's own counters told, wherever the bytes are cut."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaproxy.core.counts import TAIL, WHOLE
from llamaproxy.core.routing import Dialect
from llamaproxy.core.sse import parse
from llamaproxy.core.usage import MAX_CHOICES, DocumentMeter, Meter, StreamMeter, Usage, meter

from . import recorded
from .recorded import ALL, CUTS, Recording, pieces, single
from .test_sse import collected

WITHOUT_USAGE = {"count", "tokenize", "refused", "embeddings-native", "broken-chat", "broken-completions"}
OF_ONE = {"chat-choices-unary", "completions-prompts-unary"}
"""Unary answers to which llama-server says the counts of the first choice only."""
LATE = {"messages-emoji"}
"""llama-server leaves `message_start` out, which has the prompt, where the first token is half a character."""
WHOLE_ONES = [
    recording
    for recording in ALL.values()
    if not recording.left and recording.name not in WITHOUT_USAGE | OF_ONE | LATE
]
EVERY = pytest.mark.parametrize("recording", ALL.values(), ids=lambda recording: recording.name)


def fed(recording: Recording, parts: list[bytes]) -> Meter:
    this = meter(recording.dialect, recording.stream)
    for part in parts:
        this.feed(part)
    return this


def usage(recording: Recording, *parts: bytes) -> Usage:
    return fed(recording, list(parts) or [recording.content]).usage


def stream(*documents: dict[str, Any], dialect: Dialect = Dialect.OPENAI, compact: bool = True) -> StreamMeter:
    this = StreamMeter(dialect)
    for document in documents:
        text = json.dumps(document, separators=(",", ":") if compact else None)
        this.feed(b"data: " + text.encode() + b"\n\n")
    return this


def delta(content: str | None, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    fields = {} if content is None else {"content": content}
    return {"choices": [{"index": index, "delta": fields, "finish_reason": finish}], **more}


def openai(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


class TestRecordings:
    @pytest.mark.parametrize("recording", WHOLE_ONES, ids=lambda recording: recording.name)
    def test_whole_answers_have_the_counts_of_the_engine(self, recording: Recording) -> None:
        assert recording.counters
        told = usage(recording)
        assert told.exact
        assert told.prompt == recording.counters["prompt"] + recording.counters["cached"]
        assert told.cached in (recording.counters["cached"], None if "tokens" not in recording.name else 0)
        assert told.completion == recording.counters["completion"]

    @pytest.mark.parametrize(
        "recording", [one for one in ALL.values() if one.left], ids=lambda recording: recording.name
    )
    def test_of_answers_that_were_left_the_count_is_what_passed(self, recording: Recording) -> None:
        """The engine goes on until it notices; a character that it has begun is several tokens."""
        assert recording.counters
        told = usage(recording)
        assert not told.exact
        assert 0 <= recording.counters["completion"] - told.completion <= (3 if "emoji" in recording.name else 2)

    @EVERY
    @settings(max_examples=30)
    @given(cuts=CUTS)
    def test_any_pieces_are_the_same(self, recording: Recording, cuts: list[int]) -> None:
        whole, cut = fed(recording, [recording.content]), fed(recording, pieces(recording.content, cuts))
        assert (cut.usage, cut.tokens) == (whole.usage, whole.tokens)

    @EVERY
    def test_single_bytes_are_the_same(self, recording: Recording) -> None:
        assert usage(recording, *single(recording.content)) == usage(recording)

    @pytest.mark.parametrize("recording", recorded.STREAMS, ids=lambda recording: recording.name)
    @pytest.mark.parametrize("end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
    def test_line_ends_make_no_difference(self, recording: Recording, end: bytes) -> None:
        assert usage(recording, recording.content.replace(b"\n", end)) == usage(recording)

    @pytest.mark.parametrize("recording", recorded.STREAMS, ids=lambda recording: recording.name)
    def test_live_counts_only_rise_and_never_above_the_end(self, recording: Recording) -> None:
        this, seen, told = meter(recording.dialect, True), 0, usage(recording)
        for block in collected([recording.content]).blocks:
            this.feed(block)
            assert seen <= this.usage.completion <= told.completion
            assert this.tokens <= this.usage.completion
            seen = this.usage.completion
        assert seen == told.completion

    @pytest.mark.parametrize(
        "name", ["chat", "chat-usage", "chat-stop", "completions", "native", "responses", "messages"]
    )
    def test_of_plain_text_the_live_count_is_exact(self, name: str) -> None:
        assert fed(ALL[name], [ALL[name].content]).tokens == usage(ALL[name]).completion

    @pytest.mark.parametrize("name", ["chat-emoji-timings", "chat-emoji-left", "native-left"])
    def test_what_every_event_tells_is_believed_before_the_end(self, name: str) -> None:
        """Several tokens for each character: the events alone would be too few."""
        blocks = [block for block in collected([ALL[name].content]).blocks if b'"content"' in block]
        this = fed(ALL[name], blocks)
        event = parse(blocks[-1])
        assert event
        document = json.loads(event.data)
        said = document.get("timings", {}).get("predicted_n") or document["tokens_predicted"]
        assert this.usage.completion == said >= this.tokens
        assert this.usage.prompt

    @pytest.mark.parametrize("name", sorted(OF_ONE))
    def test_counts_of_the_first_choice_stand_for_the_others_and_are_not_exact(self, name: str) -> None:
        """Here all were as long."""
        told, counters = usage(ALL[name]), ALL[name].counters
        assert counters and not told.exact
        assert told.completion == counters["completion"]

    @pytest.mark.parametrize("name", sorted(WITHOUT_USAGE))
    def test_where_an_answer_tells_nothing_nothing_is_exact(self, name: str) -> None:
        told = usage(ALL[name])
        assert told == Usage(completion=told.completion)
        assert (told.completion > 0) == name.startswith("broken")

    def test_a_prompt_that_was_not_told_is_not_known(self) -> None:
        told = usage(ALL["messages-emoji"])
        assert (told.prompt, told.completion, told.exact) == (None, 12, True)

    @pytest.mark.parametrize("name", ["chat", "completions-unary", "native", "responses"])
    def test_speeds_are_those_of_the_engine(self, name: str) -> None:
        told, content = usage(ALL[name]), ALL[name].content.decode()
        assert f'"prompt_per_second":{told.prompt_tps}' in content
        assert f'"predicted_per_second":{told.generation_tps}' in content


CHUNK = 'data: {"choices":[{"index":%d,"delta":%s,"finish_reason":null}],"timings":{"predicted_n":3}}\n\n'
ORDINARY = (CHUNK % (0, '{"content":"a"}')).encode()
EVENTS = (
    *(ORDINARY, ORDINARY.replace(b"\n", b"\r\n"), b": " + ORDINARY, b"id: 1\n:" + ORDINARY, ORDINARY[:-1], b"\n"),
    *(CHUNK.encode() % place for place in ((0, b'{"content":""}'), (1, b'{"content":"a"}'), (0, b'{"role":"x"}'))),
    *(CHUNK.encode() % (0, b'{"reasoning_content":"%s"}' % text) for text in (b"a", b"")),
    *(b'data: {"choices":[{"text":"%s","index":%d}]}\n\n' % place for place in ((b"a", 0), (b"", 0), (b"a", 1))),
    *(b'data: {"index":0,"content":"%s","tokens":[%s]}\n\n' % said for said in ((b"a", b"1"), (b"", b"1"), (b"", b""))),
    *(b'data: {"usage":{"completion_tokens":9},"choices":[]}\n\n', b"data: [DONE]\n\n"),
)


class TestTogether:
    """Pieces are looked at some at a time, and those that hold nothing but ordinary events are not taken apart."""

    @pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.NATIVE])
    @given(
        st.lists(st.tuples(st.sampled_from((ORDINARY, *EVENTS)), st.integers(1, 3)), max_size=12),
        st.lists(st.integers(0, 900)),
    )
    def test_they_count_as_they_do_byte_by_byte(
        self, dialect: Dialect, runs: list[tuple[bytes, int]], cuts: list[int]
    ) -> None:
        events = [event * times for event, times in runs]
        apart, together = StreamMeter(dialect), StreamMeter(dialect)
        for byte in single(b"".join(events)):
            apart.feed(byte)
        for piece in pieces(b"".join(events), cuts):
            together.feed(piece)
        assert (together.tokens, together.usage) == (apart.tokens, apart.usage)

    def test_the_last_of_them_tells_the_count_so_far(self) -> None:
        this = StreamMeter(Dialect.OPENAI)
        this.feed(ORDINARY * 2 + ORDINARY.replace(b'_n":3', b'_n":7'))
        assert (this.tokens, this.usage.completion, len(this.held)) == (3, 7, 0)


class TestOtherServers:
    """As vLLM, OpenAI and servers written in Python send it."""

    def test_usage_that_is_null_is_none(self) -> None:
        events = [delta("", usage=None), delta("a", usage=None), delta("b", usage=None)]
        this = stream(*events, delta(None, finish="stop", usage=None), {"choices": [], "usage": openai(9, 2)})
        assert this.tokens == 2
        assert this.usage == Usage(9, None, 2, exact=True)

    def test_usage_that_grows_counts_once(self) -> None:
        events = [delta("a", usage=openai(9, 1)), delta("b", usage=openai(9, 2))]
        assert stream(*events).usage == Usage(9, None, 2, exact=False)
        events += [delta("c", finish="length", usage=openai(9, 3)), {"choices": [], "usage": openai(9, 3)}]
        assert stream(*events[:3]).usage == Usage(9, None, 3, exact=True)
        assert stream(*events).usage == Usage(9, None, 3, exact=True)

    @pytest.mark.parametrize("compact", [True, False])
    @pytest.mark.parametrize(
        "fields",
        [
            {"content": "a"},
            {"content": '"'},
            {"role": "assistant", "content": "a"},
            {"content": None, "reasoning_content": "a"},
            {"content": "", "reasoning": "a"},
            {"content": None, "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]},
        ],
    )
    def test_whatever_has_content_counts(self, fields: dict[str, Any], compact: bool) -> None:
        assert stream({"choices": [{"delta": fields}]}, compact=compact).tokens == 1

    @pytest.mark.parametrize("fields", [{}, {"role": "assistant"}, {"content": ""}, {"content": None}])
    def test_nothing_else_does(self, fields: dict[str, Any]) -> None:
        assert stream({"choices": [{"delta": fields, "finish_reason": None}]}).tokens == 0

    def test_comments_and_errors_do_not(self) -> None:
        this = stream({"error": {"message": "content", "code": 500, "type": "server_error"}})
        this.feed(b': data: {"content":"x"}\n\ndata: [DONE]\n\n')
        assert this.tokens == 0

    def test_usage_in_a_comment_is_not_read(self) -> None:
        this = StreamMeter(Dialect.OPENAI)
        this.feed(b': {"choices":[],"usage":{"completion_tokens":3}}\n\n')
        assert this.usage == Usage()

    def test_more_choices_than_anybody_asks_for_are_not_kept(self) -> None:
        ends: list[dict[str, Any]] = [
            delta(None, number, "stop", usage=openai(1, 1)) for number in range(MAX_CHOICES + 9)
        ]
        assert stream(*ends).usage.completion == MAX_CHOICES
        at_once: list[dict[str, Any]] = [{"choices": [], "usage": openai(1, 1)}] * (MAX_CHOICES + 9)
        assert stream(*at_once).usage.completion == MAX_CHOICES

    def test_what_a_model_writes_about_usage_is_text(self) -> None:
        text = json.dumps({"usage": openai(7, 7), "timings": {"predicted_n": 7}, "choices": []})
        this = stream(delta(text), delta("event: response.output_text.delta"))
        assert this.usage == Usage(completion=2)

    def test_a_second_choice_that_goes_on_after_the_first_ended_counts_on(self) -> None:
        events = [delta("a"), delta("b", 1), delta(None, finish="stop", timings={"predicted_n": 1})]
        assert stream(*events).usage == Usage(completion=2)
        assert stream(*events, delta("c", 1)).usage == Usage(completion=3)

    def test_what_the_first_told_counts_with_what_passes_of_the_second(self) -> None:
        """A character of three tokens is one event."""
        this = stream(delta("😀"), delta(None, finish="stop", timings={"predicted_n": 3}), delta("b", 1))
        assert (this.tokens, this.usage.completion) == (2, 4)

    def test_an_answer_that_goes_on_after_its_end_has_not_ended(self) -> None:
        """Of a server that does not number its choices."""
        text: dict[str, Any] = {"choices": [{"text": "a"}]}
        end = {"choices": [{"text": "", "finish_reason": "stop"}], "usage": openai(9, 1)}
        events = [text, text, end]
        assert stream(*events).usage.exact
        assert stream(*events, text).usage == Usage(9, None, 3, exact=False)

    def test_usage_of_all_choices_at_once_is_that_of_all(self) -> None:
        this = stream(delta("a"), delta("b", 1), {"choices": [], "usage": openai(9, 2)})
        this.feed(b"data: [DONE]\n\n")
        assert this.usage == Usage(9, None, 2, exact=True)

    def test_names_of_events_may_be_left_out(self) -> None:
        this = stream({"type": "response.output_text.delta", "delta": "a"}, dialect=Dialect.RESPONSES)
        assert this.tokens == 1

    @pytest.mark.parametrize(
        "odd",
        [
            {"usage": {"prompt_tokens": -1, "completion_tokens": 2.5}},
            {"usage": {"prompt_tokens": True, "completion_tokens": "3"}},
            {"choices": [7], "usage": {"completion_tokens": 1}},
            {"choices": [{"index": [], "finish_reason": "stop"}], "usage": {"completion_tokens": 1}},
            {"type": ["response.completed"], "usage": {"completion_tokens": 1}},
            {"timings": {"predicted_per_second": 1e400, "prompt_per_second": "fast"}},
        ],
    )
    def test_nonsense_is_not_believed_and_breaks_nothing(self, odd: dict[str, Any]) -> None:
        assert stream(odd).usage.completion in (0, 1)

    @given(st.binary(max_size=300), CUTS, st.sampled_from(list(Dialect)), st.booleans())
    def test_anything_can_be_fed(self, data: bytes, cuts: list[int], dialect: Dialect, streamed: bool) -> None:
        this = meter(dialect, streamed)
        for part in pieces(data, cuts):
            this.feed(part)
        assert this.usage.completion >= 0


class TestLargeBodies:
    NUMBERS = ",".join(["0.0123456789"] * 100_000)

    @pytest.mark.parametrize("size", [1000, 65536])
    @pytest.mark.parametrize(
        "document",
        [
            f'{{"object":"list","usage":{{"prompt_tokens":5,"details":{{}}}},"data":[{NUMBERS}]}}',
            f'{{"data":[{NUMBERS}],"usage":{{"prompt_tokens":5}},"id":"x"}}',
            f'{{"data":[{NUMBERS}],"timings":{{"cache_n":2,"prompt_n":3}}}}\n',
        ],
        ids=["at the beginning", "at the end", "timings"],
    )
    def test_counts_are_found_at_either_end(self, document: str, size: int) -> None:
        this, data = DocumentMeter(), document.encode()
        for at in range(0, len(data), size):
            this.feed(data[at : at + size])
        assert (this.usage.prompt, this.usage.exact) == (5, True)

    @pytest.mark.parametrize("size", [1, 1000, 4096, 16384, 65536, 10**7])
    @pytest.mark.parametrize(("before", "behind"), [(20_000, 20_000), (5_000, 0), (30_000, 0), (0, 40_000), (9_000, 9)])
    @pytest.mark.parametrize("answers", [0, 1, 2, 10])
    def test_counts_in_the_midst_are_those_of_all_answers(
        self, answers: int, before: int, behind: int, size: int
    ) -> None:
        """As llama-server's own /completion tells them, before the probabilities of all tokens; 0 is no array."""
        timings = '"timings":{"cache_n":1,"prompt_n":2,"predicted_n":3}'
        one = f'{{"content":"{"x" * before}",{timings},"probabilities":["{"x" * behind}"]}}'
        this, data = DocumentMeter(), (f"[{','.join([one] * answers)}]" if answers else one).encode()
        for at in range(0, len(data), size):
            this.feed(data[at : at + size])
        several = max(1, answers)
        assert this.usage == Usage(3 * several, several, 3 * several, exact=True)

    @pytest.mark.parametrize("size", [1000, 4096, 65536, 10**7])
    def test_what_is_within_an_answer_is_not_counted_beside_it(self, size: int) -> None:
        timings = '"timings":{"cache_n":1,"prompt_n":2,"predicted_n":3}'
        document = f'{{"inner":{{"text":"{"x" * 20_000}",{timings},"more":"{"x" * 20_000}"}},{timings}}}'.encode()
        this = DocumentMeter()
        for at in range(0, len(document), size):
            this.feed(document[at : at + size])
        assert this.usage == Usage(3, 1, 3, exact=True)

    def test_no_more_than_the_ends_is_kept(self) -> None:
        this = DocumentMeter()
        for _ in range(300):
            this.feed(b"[" * 65536)
            assert len(this._rest) <= 2 * WHOLE + TAIL
        assert this.usage == Usage()

    @given(st.integers(WHOLE - 200, 2 * WHOLE + 200), CUTS)
    @settings(max_examples=30)
    def test_sizes_around_the_bounds(self, size: int, cuts: list[int]) -> None:
        data = b'{"content":"%b","timings":{"cache_n":1,"prompt_n":2,"predicted_n":3}}' % (b"x" * size)
        this = DocumentMeter()
        for part in pieces(data, cuts):
            this.feed(part)
        assert (this.usage.prompt, this.usage.completion) == (3, 3)

    def test_the_last_event_of_a_long_response_is_read_from_its_end(self) -> None:
        output = [{"type": "message", "content": [{"text": "x" * 100_000}]}]
        response = {"output": output, "usage": {"input_tokens": 4, "output_tokens": 5}}
        this = stream({"type": "response.completed", "response": response}, dialect=Dialect.RESPONSES)
        assert this.usage == Usage(4, None, 5, exact=True)
