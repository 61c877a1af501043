"""llamaproxy.loadtest.plan: levels in order, and bodies that are equal work."""

from typing import Any

import pytest

from llamaproxy.loadtest.plan import Level, Plan, prompt

LEVEL = Level(1, 10, 20)


def plan(**changed: Any) -> Plan:
    settings: dict[str, Any] = {
        **{"clients": [1, 4], "prompt_tokens": [10, 100], "output_tokens": [20], "requests": 5, "seconds": 60},
        **{"timeout": 10, "warmup": 1, "stream": True, "may_stop": False, "seed": "s"},
    }
    return Plan(**{**settings, **changed})


def test_few_clients_come_first() -> None:
    assert plan().levels() == [Level(1, 10, 20), Level(4, 10, 20), Level(1, 100, 20), Level(4, 100, 20)]


def test_a_stream_is_asked_for_its_usage() -> None:
    body = plan().body("m", LEVEL, 0)
    assert (body["model"], body["max_tokens"], body["ignore_eos"]) == ("m", 20, True)
    assert body["stream_options"] == {"include_usage": True}


def test_one_piece_has_no_options_of_streams() -> None:
    body = plan(stream=False).body("m", LEVEL, 0)
    assert body["stream"] is False
    assert "stream_options" not in body


def test_servers_that_know_only_openais_parameters_get_no_others() -> None:
    assert "ignore_eos" not in plan(may_stop=True).body("m", LEVEL, 0)


@pytest.mark.parametrize("tokens", [1, 500])
def test_prompts_have_their_length(tokens: int) -> None:
    assert len(prompt("s", tokens).split()) == tokens


def test_no_two_prompts_begin_alike() -> None:
    prompts = {prompt(f"{seed}-{number}", 8) for seed in "ab" for number in range(100)}
    assert len(prompts) == 200
    assert prompt("a-1", 8) == prompt("a-1", 8)
