"""llamaproxy.telemetry.engines: engines are asked while they are in use, and none of them can hurt by its answer."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from llamaproxy.telemetry import engines as module
from llamaproxy.telemetry.engines import INTERVAL, Engines, Target, Unasked


def page(predicted: int = 0, prompt: int = 0) -> bytes:
    counters = {"prompt_tokens_total": prompt, "tokens_predicted_total": predicted}
    lines = [f"# TYPE llamacpp:{name} counter\nllamacpp:{name} {value}\n" for name, value in counters.items()]
    gauges = "".join(f"# TYPE llamacpp:{name} gauge\nllamacpp:{name} 1\n" for name in ("busy", "prompt_tokens_seconds"))
    return ("".join(lines) + gauges).encode()


class Played:
    """One engine, what it answers, and who uses it. `asked` counts the questions."""

    def __init__(self, model: str) -> None:
        self.model, self.life, self.in_use, self.used_at = model, 1, True, 0.0
        self.answer: tuple[int, bytes] | Exception = (200, page())
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked = 0
        self.props: tuple[int, bytes] = (404, b"")
        self.props_asked = 0

    async def ask_props(self) -> tuple[int, bytes]:
        self.props_asked += 1
        return self.props

    async def ask(self) -> tuple[int, bytes]:
        self.asked += 1
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def target(self) -> Target:
        return Target(self.model, self.life, self.in_use, self.used_at, self.ask, self.ask_props)


class World:
    def __init__(self) -> None:
        self.now = 1000.0
        self.played = [Played("m")]
        self.engines = Engines(lambda: [engine.target() for engine in self.played], lambda: self.now)

    async def look(self, later: float = 0.0) -> None:
        """So many seconds pass, and who is asked answers, if it may."""
        self.now += later
        self.engines.poke()
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.engines.close()
    await settled()


@pytest.fixture
def engine(world: World) -> Played:
    return world.played[0]


async def test_readings_and_rates(world: World, engine: Played) -> None:
    engine.answer = 200, page(predicted=100, prompt=7)
    await world.look()
    (first,) = world.engines.known().values()
    assert (first.error, first.rates) == (None, {})
    assert [(reading.name, reading.value) for reading in first.readings] == [
        ("prompt_tokens_total", 7),
        ("tokens_predicted_total", 100),
        ("busy", 1),
    ], "averages since somebody's last look are left out"
    engine.answer = 200, page(predicted=180, prompt=7)
    await world.look(INTERVAL)
    assert world.engines.known()["m"].rates == {"prompt_tokens_per_second": 0, "predicted_tokens_per_second": 40}


async def test_no_more_often_than_every_two_seconds(world: World, engine: Played) -> None:
    for _ in range(21):
        await world.look(0.25)
    assert engine.asked == 3


async def test_engine_at_rest_is_left_alone(world: World, engine: Played) -> None:
    await world.look()
    engine.in_use, engine.used_at = False, world.now + 1
    await world.look(INTERVAL)
    assert engine.asked == 2, "what it did last is looked at"
    for _ in range(50):
        await world.look(INTERVAL)
    assert engine.asked == 2
    engine.in_use = True
    await world.look(INTERVAL)
    assert engine.asked == 3


async def test_rate_of_an_engine_at_rest_is_zero(world: World, engine: Played) -> None:
    await world.look()
    engine.answer = 200, page(predicted=50)
    engine.in_use, engine.used_at = False, world.now + 1
    await world.look(INTERVAL)
    assert world.engines.known()["m"].rates["predicted_tokens_per_second"] == 25
    await world.look(4 * INTERVAL)
    assert world.engines.known()["m"].rates["predicted_tokens_per_second"] == 0
    assert world.engines.known()["m"].readings


async def test_slow_engine_is_asked_once_and_delays_nobody(world: World, engine: Played) -> None:
    world.played.append(other := Played("n"))
    engine.may_answer.clear()
    for _ in range(3):
        await world.look(INTERVAL)
    assert (engine.asked, other.asked) == (1, 3)
    assert world.engines.known().keys() == {"n"}


async def test_engine_that_does_not_answer_in_time(
    world: World, engine: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE", 0.0)
    engine.may_answer.clear()
    await world.look()
    await asyncio.sleep(0.01)
    assert "no answer" in (world.engines.known()["m"].error or "")


@pytest.mark.parametrize("answer", [(200, b"<html>"), (500, b""), Unasked("connection refused")])
async def test_broken_engine_is_asked_ever_more_rarely(
    answer: tuple[int, bytes] | Exception, world: World, engine: Played
) -> None:
    await world.look()
    engine.answer = answer
    asked = []
    for second in range(1, 200):
        before = engine.asked
        await world.look(1)
        if engine.asked > before:
            asked.append(second)
    assert asked[:5] == [2, 6, 14, 30, 62]
    assert asked[5:] == [122, 182]
    assert world.engines.known()["m"].error
    assert not world.engines.known()["m"].readings
    engine.answer = 200, page()
    await world.look(60)
    assert world.engines.known()["m"].error is None


@pytest.mark.parametrize("answer", [(404, b""), (501, b"{}"), (200, b"# TYPE vllm:x gauge\nvllm:x 1\n"), (200, b"")])
async def test_server_without_these_metrics_is_asked_once_in_its_life(
    answer: tuple[int, bytes], world: World, engine: Played
) -> None:
    engine.answer = answer
    for _ in range(10):
        await world.look(INTERVAL)
    assert (engine.asked, world.engines.known()) == (1, {})
    engine.life += 1
    engine.answer = 200, page()
    await world.look(INTERVAL)
    assert world.engines.known().keys() == {"m"}


async def test_metrics_leave_with_their_engine(world: World, engine: Played) -> None:
    await world.look()
    world.played.clear()
    await world.look()
    assert world.engines.known() == {}


async def test_counters_of_one_life_are_not_compared_with_those_of_another(world: World, engine: Played) -> None:
    engine.answer = 200, page(predicted=1000)
    await world.look()
    engine.life += 1
    await world.look(INTERVAL)
    assert world.engines.known()["m"].rates == {}


async def test_late_answer_of_an_earlier_life_is_not_believed(world: World, engine: Played) -> None:
    engine.may_answer.clear()
    await world.look()
    engine.life += 1
    engine.answer = Unasked("it is another one")
    await world.look()
    engine.may_answer.set()
    await settled()
    assert world.engines.known()["m"].error == "it is another one"
    assert engine.asked == 2


async def test_names_of_the_gateways_own_are_not_taken(world: World, engine: Played) -> None:
    names = ("up", "prompt_tokens_per_second", "good")
    text = "".join(f"# TYPE llamacpp:{name} gauge\nllamacpp:{name} 666\n" for name in names)
    engine.answer = 200, text.encode()
    await world.look()
    assert [reading.name for reading in world.engines.known()["m"].readings] == ["good"]


class TestVersion:
    async def test_it_is_asked_once_in_a_life(self, world: World, engine: Played) -> None:
        engine.props = 200, b'{"build_info": "b11434-abc", "more": 1}'
        assert world.engines.version("m") is None
        await world.look()
        await world.look(INTERVAL)
        assert (world.engines.version("m"), engine.props_asked) == ("b11434-abc", 1)
        engine.life, engine.props = 2, (200, b'{"build_info": "b2"}')
        await world.look(INTERVAL)
        assert world.engines.version("m") == "b2"

    @pytest.mark.parametrize("page", [b"", b"{", b"[]", b"{}", b'{"build_info": 7}', b'{"build_info": "\\u001b[2J"}'])
    async def test_what_is_none(self, page: bytes, world: World, engine: Played) -> None:
        engine.props = 200, page
        await world.look()
        assert (world.engines.version("m"), engine.props_asked) == (None, 1)
        (known,) = world.engines.known().values()
        assert known.error is None

    async def test_it_is_cut(self, world: World, engine: Played) -> None:
        engine.props = 200, b'{"build_info": "%s"}' % (b"x" * 1000)
        await world.look()
        assert len(world.engines.version("m") or "") == 100

    async def test_a_server_without_metrics_is_not_asked(self, world: World, engine: Played) -> None:
        engine.answer = 404, b""
        await world.look()
        assert engine.props_asked == 0
