"""What is learned from one try of a request, by row and lease that are real and an engine that is not."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llamaproxy.backends.lease import Lease
from llamaproxy.core.events import Outcome, RequestArrived
from llamaproxy.core.response import Head, parse
from llamaproxy.core.routing import ENDPOINTS, Endpoint
from llamaproxy.server.account import Account
from llamaproxy.telemetry.ledger import Ledger, RequestRow

CHAT = ENDPOINTS["/v1/chat/completions"]
UNARY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 1\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TIMINGS = b'"timings":{"cache_n":3,"prompt_n":4,"prompt_per_second":50.0,"predicted_n":5,"predicted_per_second":20.0}'
ANSWER = b'{"choices":[{"message":{"content":"a"}}],"usage":{"prompt_tokens":7,"completion_tokens":5},' + TIMINGS + b"}"
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"a"}}],"object":"chat.completion.chunk"}\n\n'


class Carrying:
    """Who carries KV over, as far as an account knows of it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.prompts: list[tuple[int | None, int | None]] = []

    def begin(self, body: bytes) -> float:
        self.bodies.append(body)
        return 0.5

    def served(self, body: bytes, share: float, prompt: int | None, cached: int | None) -> None:
        assert (body, share) == (self.bodies[-1], 0.5)
        self.prompts.append((prompt, cached))


class Scene:
    def __init__(
        self, endpoint: Endpoint = CHAT, carry: Carrying | None = None, capture: Callable[[bytes], None] | None = None
    ) -> None:
        self.ledger = Ledger()
        self.row = self.ledger.open(RequestRow("r", endpoint.name, endpoint.dialect, "127.0.0.1"))
        office: Any = SimpleNamespace(good_answer=lambda request, model: None)
        self.lease = Lease(office, RequestArrived("r", "m", 1.0))
        self.lease.backend = cast(Any, SimpleNamespace(carry=carry, model="m", number=3))
        self.lease.queue_seconds, self.lease.load_seconds = 0.25, 1.5
        self.account = Account(self.ledger, self.row, self.lease, endpoint, b"the body", capture)

    def answer(self, head: bytes, *content: bytes, whole: bool = True, left: bool = False) -> RequestRow:
        observe = self.account.began(self.head(head))
        for piece in content:
            if observe:
                observe(piece)
        self.account.close(whole, left)
        return self.row

    def head(self, head: bytes) -> Head:
        return parse(head, to_head=False)


def test_tokens_of_a_document() -> None:
    row = Scene().answer(UNARY, ANSWER[:40], ANSWER[40:])
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (7, 3, 5)
    assert (row.prompt_tps, row.generation_tps) == (50.0, 20.0)


def test_an_answer_that_streams_is_a_stream_whoever_asked_for_one() -> None:
    assert Scene().answer(STREAM, EVENT).stream
    assert not Scene().answer(UNARY, ANSWER).stream


def test_tokens_of_a_stream_that_nobody_reads_to_its_end() -> None:
    row = Scene().answer(STREAM, EVENT, EVENT + EVENT, whole=False)
    assert (row.prompt_tokens, row.completion_tokens) == (None, 3)


def test_a_stream_that_was_left_has_the_token_that_the_engine_had_begun() -> None:
    assert Scene().answer(STREAM, EVENT, EVENT, whole=False, left=True).completion_tokens == 3
    assert Scene().answer(STREAM, b": waiting\n\n", whole=False, left=True).completion_tokens == 0


def test_what_an_engine_has_told_as_the_whole_is_the_whole() -> None:
    timings = b'"timings":{"cache_n":0,"prompt_n":7,"predicted_n":2}'
    end = b'data: {"choices":[{"finish_reason":"stop","index":0,"delta":{}}],%b}\n\n' % timings
    assert Scene().answer(STREAM, EVENT, EVENT, end, whole=False, left=True).completion_tokens == 2
    assert Scene().answer(UNARY, ANSWER, whole=False, left=True).completion_tokens == 5


def test_waiting_of_several_tries_adds_up_and_the_last_backend_is_told() -> None:
    scene = Scene()
    assert (scene.row.queue_ms, scene.row.load_ms, scene.row.backend) == (250, 1500, "m#3")
    Account(scene.ledger, scene.row, scene.lease, CHAT, b"")
    assert (scene.row.queue_ms, scene.row.load_ms) == (500, 3000)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.SUCCESS),
        (404, Outcome.SUCCESS),
        (501, Outcome.SUCCESS),
        (500, Outcome.FAILURE),
        (503, Outcome.NEUTRAL),
    ],
)
def test_lease_hears_what_the_status_says_of_the_backend(status: int, outcome: Outcome) -> None:
    scene = Scene()
    row = scene.answer(UNARY.replace(b"200", b"%d" % status), ANSWER)
    assert scene.lease.outcome is outcome
    assert row.ttfb_ms is not None
    assert (row.completion_tokens is None) == (status != 200)


def test_an_engine_that_complains_of_the_request_has_not_failed() -> None:
    said = b'{"error":{"code":500,"message":"image input is not supported","type":"server_error"}}'
    seen: list[bytes] = []
    for scene in (Scene(), Scene(capture=seen.append)):
        scene.answer(UNARY.replace(b"200", b"500"), said[:30], said[30:])
        assert scene.lease.outcome is Outcome.SUCCESS
    assert b"".join(seen) == said


def test_who_leaves_in_the_middle_of_a_complaint_says_nothing_of_the_backend() -> None:
    scene = Scene()
    scene.answer(UNARY.replace(b"200", b"500"), b'{"error":', whole=False, left=True)
    assert scene.lease.outcome is Outcome.NEUTRAL


def test_nothing_is_counted_where_nothing_is_generated() -> None:
    assert Scene(ENDPOINTS["/tokenize"]).answer(UNARY, ANSWER).completion_tokens is None


@pytest.mark.parametrize(
    ("answer", "whole", "told"),
    [(ANSWER, True, [(7, 3)]), (b"{}", True, [(None, None)]), (ANSWER, False, [])],
    ids=["told", "nothing told", "broken off"],
)
def test_who_carries_kv_over_hears_of_whole_answers(
    answer: bytes, whole: bool, told: list[tuple[int | None, int | None]]
) -> None:
    carry = Carrying()
    Scene(carry=carry).answer(UNARY, answer, whole=whole)
    assert (carry.bodies, carry.prompts) == ([b"the body"], told)


def test_light_requests_are_not_told_of_slots() -> None:
    carry = Carrying()
    Scene(ENDPOINTS["/tokenize"], carry).answer(UNARY, ANSWER)
    assert (carry.bodies, carry.prompts) == ([], [])


@pytest.mark.parametrize(
    ("endpoint", "head"),
    [(CHAT, UNARY), (CHAT, UNARY.replace(b"200 OK", b"500 Oh")), (ENDPOINTS["/tokenize"], UNARY), (CHAT, STREAM)],
)
def test_capture_sees_every_answer_beside_the_meter(endpoint: Endpoint, head: bytes) -> None:
    seen: list[bytes] = []
    Scene(endpoint, capture=seen.append).answer(head, b"{", b"}")
    assert seen == [b"{", b"}"]


def test_the_meter_is_alone_with_a_stream_that_nobody_captures() -> None:
    scene, captured, document = Scene(), Scene(capture=lambda data: None), Scene()
    for one, head in ((scene, STREAM), (captured, STREAM), (document, UNARY)):
        one.answer(head)
    assert (captured.account.alone, document.account.alone) == (None, None)
    assert scene.account.alone
    scene.account.alone.feed(EVENT)
    assert scene.account.tokens == 1


def test_meter_counts_beside_a_capture() -> None:
    assert Scene(capture=lambda data: None).answer(UNARY, ANSWER).completion_tokens == 5
