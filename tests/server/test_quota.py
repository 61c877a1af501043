"""llamaproxy.server.quota: from a key to its limits, and what a request has taken when it ended."""

import asyncio
from typing import Any

import pytest

from llamaproxy.core import routing
from llamaproxy.core.keys import Key
from llamaproxy.core.limits import Limits
from llamaproxy.core.routing import Endpoint
from llamaproxy.errors import ModelNotAllowed, RateLimitExceeded, RequestCancelled
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models.catalogue import Model
from llamaproxy.server import quota
from llamaproxy.server.passthrough import ClientGone
from llamaproxy.server.quota import Quota, spell_duration
from llamaproxy.telemetry.ledger import RequestRow
from tests.server.mocked import mocked_request

MODEL = Model("m", ModelConfig(path="/m.gguf", aliases=("gpt",)), "configured")
BODY = b'{"max_tokens": 60}' + b" " * 14
"""Worth 100 tokens: 60 of the answer, 8 of the prompt, 32 of its template."""


def chat() -> Endpoint:
    return routing.ENDPOINTS["/v1/chat/completions"]


class World:
    """One key with limits, and a clock that stands."""

    def __init__(self, **rules: Any) -> None:
        self.now = 0.0
        self.key = Key("alice", limits=Limits(**rules))
        self.quota = Quota(lambda: self.now)

    def request(self, key: Key | None = None) -> Any:
        request = mocked_request("POST", "/v1/chat/completions", {"Content-Type": "application/json"})
        self.quota.enter(request, key or self.key)
        return request

    def admit(self, row: RequestRow) -> quota.Grant:
        return quota.admit(self.request(), row, MODEL, chat(), BODY)

    @property
    def remaining(self) -> int:
        return int(quota.fields(self.request())["x-ratelimit-remaining-tokens"])


def row(**known: Any) -> RequestRow:
    return RequestRow("id", "chat/completions", "openai", "127.0.0.1", **known)


class TestSettling:
    def test_held_while_it_lasts_and_settled_as_its_row_says(self) -> None:
        world, mine = World(tpm=1000), row()
        with world.admit(mine):
            assert world.remaining == 900
            mine.backend, mine.prompt_tokens, mine.completion_tokens = "m#1", 7, 13
        assert world.remaining == 980

    def test_what_never_reached_an_engine_has_taken_nothing(self) -> None:
        for error in (asyncio.CancelledError, ClientGone, RateLimitExceeded):
            world = World(tpm=1000)
            with pytest.raises(error), world.admit(row()):
                raise error("left")
            assert world.remaining == 1000

    def test_an_error_of_the_engine_has_taken_nothing(self) -> None:
        world = World(tpm=1000)
        with world.admit(row(backend="m#1")):
            pass
        assert world.remaining == 1000

    @pytest.mark.parametrize("error", [asyncio.CancelledError, ClientGone])
    def test_an_engine_that_was_left_alone_may_have_done_all_of_it(self, error: type[BaseException]) -> None:
        world = World(tpm=1000)
        with pytest.raises(error), world.admit(row(backend="m#1")):
            raise error
        assert world.remaining == 900

    def test_a_stream_of_comments_that_was_cancelled_ends_without_an_error(self) -> None:
        """Whether an engine had begun with it makes the difference."""
        for backend, remaining in ((None, 1000), ("m#1", 900)):
            world = World(tpm=1000)
            with world.admit(mine := row(backend=backend)):
                mine.status = RequestCancelled.status
            assert world.remaining == remaining

    def test_a_stream_that_was_left_has_what_was_counted_and_the_prompt_that_was_guessed(self) -> None:
        world, mine = World(tpm=1000), row(backend="m#1", completion_tokens=9)
        with pytest.raises(ClientGone), world.admit(mine):
            raise ClientGone
        assert world.remaining == 1000 - 40 - 9

    def test_by_hand_and_only_once(self) -> None:
        world = World(tpm=1000)
        with world.admit(row(backend="m#1", completion_tokens=500)) as grant:
            grant.settle(10, 20)
        assert world.remaining == 970


class TestWho:
    def test_without_a_key_nothing_is_asked_and_nothing_told(self) -> None:
        request = mocked_request("GET", "/")
        with quota.admit(request, row(), MODEL, chat(), BODY):
            assert quota.fields(request) == {}
        assert quota.key_name(request) is None
        assert quota.may_use(request, MODEL)

    def test_a_key_without_limits_is_told_nothing(self) -> None:
        world = World()
        request = world.request()
        assert quota.fields(request) == {}
        assert quota.key_name(request) == "alice"

    def test_models_by_name_and_alias(self) -> None:
        world = World()
        for name in ("m", "gpt"):
            assert quota.may_use(world.request(Key("bob", frozenset({name}))), MODEL)
        request = world.request(Key("bob", frozenset({"other"})))
        assert not quota.may_use(request, MODEL)
        with pytest.raises(ModelNotAllowed):
            quota.admit(request, row(), MODEL, chat(), BODY)

    def test_each_key_has_limits_of_its_own(self) -> None:
        world = World(rpm=1)
        world.admit(row())
        with pytest.raises(RateLimitExceeded):
            world.admit(row())
        other = world.request(Key("bob", limits=Limits(rpm=1)))
        quota.admit(other, row(), MODEL, chat(), BODY)

    def test_what_was_taken_outlives_another_key_of_the_name(self) -> None:
        """As after a reload, or when a key is replaced."""
        world = World(rpm=5)
        world.admit(row())
        renewed = world.request(Key("alice", limits=Limits(rpm=3)))
        assert quota.fields(renewed)["x-ratelimit-remaining-requests"] == "2"

    def test_keys_that_are_gone_take_no_memory(self) -> None:
        world = World(rpm=5)
        request = world.request()
        for number in range(10_000):
            world.now += 1
            world.quota.enter(request, Key(f"k{number}", limits=Limits(rpm=1)))
            quota.admit(request, row(), MODEL, chat(), BODY).settle(1, 1)
        assert len(world.quota._allowances) <= 2 * quota._ROOM


class TestFields:
    def test_as_openai_spells_them(self) -> None:
        world = World(rpm=10, tpm=1000)
        with world.admit(row()):
            world.now = 15
            assert quota.fields(world.request()) == {
                "x-ratelimit-limit-requests": "10",
                "x-ratelimit-remaining-requests": "9",
                "x-ratelimit-reset-requests": "45s",
                "x-ratelimit-limit-tokens": "1000",
                "x-ratelimit-remaining-tokens": "900",
                "x-ratelimit-reset-tokens": "1m0s",
            }

    def test_only_of_what_is_limited(self) -> None:
        assert set(quota.fields(World(rpm=1).request())) == {
            f"x-ratelimit-{what}-requests" for what in ("limit", "remaining", "reset")
        }
        assert quota.fields(World(concurrency=1).request()) == {}

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (-1, "0s"),
            (0, "0s"),
            (0.0001, "1ms"),
            (0.12, "120ms"),
            (1, "1s"),
            (58.2, "59s"),
            (60, "1m0s"),
            (360, "6m0s"),
            (3599.5, "1h0m0s"),
            (3661, "1h1m1s"),
        ],
    )
    def test_durations(self, seconds: float, text: str) -> None:
        assert spell_duration(seconds) == text


def test_the_priority_is_the_keys() -> None:
    request = World().request(Key("vip", priority=7))
    assert quota.priority(request) == 7
    assert quota.priority(mocked_request("POST", "/")) == 0, "without a key nobody is more than another"
