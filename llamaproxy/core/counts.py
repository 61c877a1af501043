"""What one JSON document of an engine says about tokens: a unary body, or the data of one event.

Pure. Knows where each API has its counts, and reads them from the two ends of a document that is too large to be
parsed. Does not know whether more is to come: `core/usage` does. Facts: llama-server b11434, the OpenAI and Anthropic
references; other servers spell them in one of these ways.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import orjson

WHOLE = 16 * 1024
"""Bytes of a document that is parsed; of a larger one only the ends are looked at."""
HEAD = 4 * 1024
"""Bytes. Embeddings and rerank have `usage` before their data."""
TAIL = 12 * 1024
"""Bytes. Everything else has its counts last."""
MOST = 10**12
"""Tokens: more than any engine means."""
_TRIES = 8
"""Places that look like counts: what a model wrote as an argument of a tool may look so, too."""

_COUNTS = re.compile(rb'"(?:usage|timings)"\s*:\s*\{')
_USAGE = re.compile(rb'"usage"\s*:\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}')
_TIMINGS = re.compile(rb'"timings"\s*:\s*(\{[^{}]*\})')
_IN_RESPONSE = re.compile(rb'\s*\{\s*"type"\s*:\s*"response\.')
"""The events of /v1/responses have their usage one level deeper."""


_Tokens = tuple[int | None, int | None, int | None]
"""Prompt, the cached part of it, completion."""


class Counts(NamedTuple):
    """Tokens, and speeds in tokens a second; None where nothing is said.

    `prompt` is all of the prompt, `cached` the part of it that was found in the cache. `of_one`: the document has
    several answers and tells of only one; `completion` takes the others for as long.
    """

    prompt: int | None = None
    cached: int | None = None
    completion: int | None = None
    prompt_tps: float | None = None
    generation_tps: float | None = None
    of_one: bool = False

    def over(self, earlier: "Counts") -> "Counts":
        """These, and what the earlier ones say beyond them."""
        if earlier is _NOTHING or None not in self:
            return self
        prompt, cached, completion, prompt_tps, generation_tps, _ = self
        return Counts(
            earlier.prompt if prompt is None else prompt,
            earlier.cached if cached is None else cached,
            earlier.completion if completion is None else completion,
            earlier.prompt_tps if prompt_tps is None else prompt_tps,
            earlier.generation_tps if generation_tps is None else generation_tps,
            self.of_one,
        )


_NOTHING = Counts()


def total(several: Iterable[Counts], shared_prompt: bool = False) -> Counts:
    """Of several answers; `shared_prompt`: to one prompt, which was evaluated once. Speeds are the last one's."""
    these = list(several)
    prompts = [one.prompt for one in these if one.prompt is not None]
    cached = [one.cached for one in these if one.cached is not None]
    completions = [one.completion for one in these if one.completion is not None]
    return Counts(
        (max(prompts) if shared_prompt else sum(prompts)) if prompts else None,
        (min(cached) if shared_prompt else sum(cached)) if cached else None,
        sum(completions) if completions else None,
        these[-1].prompt_tps if these else None,
        these[-1].generation_tps if these else None,
        any(one.of_one for one in these),
    )


def read(document: bytes) -> Counts | None:
    """The counts of a document, or None where it has none or is no JSON."""
    if len(document) > WHOLE:
        return read_ends(document[:HEAD], document[-TAIL:])
    parsed = parse(document)
    return None if parsed is None else counts_of(parsed)


def read_ends(head: bytes, tail: bytes) -> Counts | None:
    """The counts of a large object, of which only these two ends are known.

    From a key of the outermost object on, its end makes a document of its own once it is opened again, and so does its
    beginning once it is closed; from any deeper key on the brackets do not fit.
    """
    opening = b'{"response":{' if _IN_RESPONSE.match(head) else b"{"
    for document in (*_from_tail(tail, opening), *_from_head(head)):
        parsed = parse(document)
        if parsed is not None and (counts := counts_of(parsed)):
            return counts
    return None


def in_midst(document: bytes, until: int) -> list[Counts]:
    """Of answers that tell theirs in the midst of a document, before the byte `until`.

    llama-server's own /completion has the probabilities of all tokens behind them, and an array one such answer for
    each prompt.
    """
    if b'"timings"' not in document:  # a tenth of what the pattern takes
        return []
    found = (parse(match[1]) for match in _TIMINGS.finditer(document) if match.start() < until)
    return [_timed((None, None, None), timings) for timings in found if timings]


def _from_tail(tail: bytes, opening: bytes) -> Iterator[bytes]:
    for found in list(_COUNTS.finditer(tail))[-_TRIES:]:
        yield opening + tail[found.start() :]


def _from_head(head: bytes) -> Iterator[bytes]:
    for found in list(_USAGE.finditer(head))[:_TRIES]:
        yield head[: found.end()] + b"}"


def parse(document: bytes) -> Any:
    """None where it is no JSON."""
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError:
        return None


def counts_of(document: Any) -> Counts | None:
    """The counts of a parsed document. An array has one answer for each prompt: llama-server's own /completion."""
    if isinstance(document, list):
        found = [counts for item in document if isinstance(item, dict) and (counts := counts_of(item))]
        return total(found) if found else None
    if not isinstance(document, dict):
        return None
    usage, timings = _usage(document), _mapping(document, "timings")
    tokens = _tokens(usage) if usage else (None, None, None)
    counts = _timed(tokens, timings) if timings else Counts(*tokens)
    if "prompt_progress" in document:
        counts = _progress(document).over(counts)
    if "tokens_predicted" in document:
        counts = counts.over(_native(document))
    if counts == _NOTHING:
        return None
    # llama-server tells the counts of the first answer only; who counts all has no timings.
    choices = document.get("choices") if timings else None
    return _of_as_many(counts, len(choices)) if isinstance(choices, list) and len(choices) > 1 else counts


def _of_as_many(counts: Counts, answers: int) -> Counts:
    return counts._replace(completion=counts.completion and counts.completion * answers, of_one=True)


def _usage(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Events of /v1/responses have it in `response`, the first of /v1/messages in `message`."""
    return (
        _mapping(document, "usage")
        or _mapping(_mapping(document, "response"), "usage")
        or _mapping(_mapping(document, "message"), "usage")
    )


def _tokens(usage: Mapping[str, Any]) -> _Tokens:
    prompt = _count(usage.get("prompt_tokens", usage.get("input_tokens")))
    completion = _count(usage.get("completion_tokens", usage.get("output_tokens")))
    if "cache_read_input_tokens" not in usage:
        details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
        return prompt, _count(details.get("cached_tokens")) if isinstance(details, dict) else None, completion
    # Anthropic's input tokens are those that were not in the cache.
    cached = _count(usage.get("cache_read_input_tokens")) or 0
    created = _count(usage.get("cache_creation_input_tokens")) or 0
    return None if prompt is None else prompt + cached + created, cached, completion


def _timed(tokens: _Tokens, timings: Mapping[str, Any]) -> Counts:
    """These tokens, and what timings say beyond them."""
    prompt, cached, completion = tokens
    reused = _count(timings.get("cache_n"))
    if prompt is None and reused is not None and (evaluated := _count(timings.get("prompt_n"))) is not None:
        prompt = reused + evaluated
    if cached is None:
        cached = reused
    if completion is None:
        completion = _count(timings.get("predicted_n"))
    prompt_tps, generation_tps = timings.get("prompt_per_second"), timings.get("predicted_per_second")
    return Counts(prompt, cached, completion, _speed(prompt_tps), _speed(generation_tps))


def _progress(document: Mapping[str, Any]) -> Counts:
    """While a prompt is evaluated, `timings` tell only how far that has come."""
    progress = _mapping(document, "prompt_progress")
    return Counts(_count(progress.get("total")), _count(progress.get("cache")))


def _native(document: Mapping[str, Any]) -> Counts:
    return Counts(_count(document.get("tokens_evaluated")), None, _count(document.get("tokens_predicted")))


def _mapping(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST else None


def _speed(value: Any) -> float | None:
    """None also for 0, which an engine says where there was nothing to measure."""
    return float(value) if type(value) in (int, float) and 0 < value < math.inf else None
