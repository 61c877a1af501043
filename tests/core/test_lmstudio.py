"""What is added to OpenAI's answers, and that nothing else of them changes."""

import json
from typing import Any

from llamaproxy.core.lmstudio import Events, Surroundings, WithStats

INFO = {"arch": "llama", "quant": "Q8_0", "format": "gguf", "context_length": 2048}
TIMINGS = {"prompt_ms": 111.0, "predicted_ms": 954.0, "predicted_n": 53, "predicted_per_second": 55.5}
SEEN = Surroundings(lambda: INFO, lambda: 0.25)


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def chunk(reason: str | None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"finish_reason": reason, "index": 0, "delta": {"content": "a"}}], **more}


def through(*parts: bytes) -> bytes:
    events = Events(SEEN)
    return b"".join(events.through(part) for part in parts) + events.end()


def test_a_document_has_stats() -> None:
    document = {"choices": [{"finish_reason": "length"}], "system_fingerprint": "b1-x", "timings": TIMINGS}
    told = json.loads(WithStats(SEEN).whole(200, json.dumps(document).encode()))
    assert told == {
        **document,
        "stats": {
            "tokens_per_second": 55.5,
            "time_to_first_token": 0.111,
            "generation_time": 0.954,
            "stop_reason": "maxPredictedTokensReached",
        },
        "model_info": INFO,
        "runtime": {"name": "llama.cpp", "version": "b1-x", "supported_formats": ["gguf"]},
    }


def test_what_an_engine_does_not_tell_is_seen_or_unknown() -> None:
    told = json.loads(WithStats(SEEN).whole(200, b'{"choices":[{"finish_reason":"stop"}]}'))
    assert told["stats"] == {
        "tokens_per_second": None,
        "time_to_first_token": 0.25,
        "generation_time": None,
        "stop_reason": "eosFound",
    }


def test_errors_and_what_is_no_object_go_on_as_they_are() -> None:
    for status, content in ((400, b'{"error":{"message":"no"}}'), (200, b"[1]"), (200, b"<html>")):
        assert WithStats(SEEN).whole(status, content) == content


def test_only_the_event_with_the_end_is_another() -> None:
    parts = [b": hi\n\n", event(chunk(None)), event(chunk("stop", timings=TIMINGS)), b"data: [DONE]\n\n"]
    *first, end, done, rest = through(*parts).split(b"\n\n")
    assert b"\n\n".join(first) + b"\n\n" == parts[0] + parts[1]
    assert (done, rest) == (b"data: [DONE]", b"")
    told = json.loads(end.removeprefix(b"data: "))
    assert (told["stats"]["generation_time"], told["model_info"]) == (0.954, INFO)
    assert told["choices"] == chunk("stop")["choices"]


def test_counts_of_each_token_were_not_asked_for() -> None:
    assert through(event(chunk(None, timings=TIMINGS))) == event(chunk(None))


def test_it_is_the_same_wherever_the_bytes_are_cut() -> None:
    whole = event(chunk(None)) + event(chunk("stop", timings=TIMINGS)) + b"data: [DONE]\n\n"
    assert through(*(bytes([byte]) for byte in whole)) == through(whole)


def test_what_breaks_off_comes_before_what_is_said_of_it() -> None:
    events = Events(SEEN)
    assert events.through(b"data: half") + events.insert(b"\n\nerror") == b"data: half\n\nerror"


def test_the_first_token_is_that_of_the_first_event() -> None:
    seconds = iter([0.5, 9.0])
    events = Events(Surroundings(lambda: INFO, lambda: next(seconds)))
    told = events.through(event(chunk(None))) + events.through(event(chunk("stop")))
    assert b'"time_to_first_token":0.5' in told
