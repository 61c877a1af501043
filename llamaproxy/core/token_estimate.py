"""How many tokens a request may take, told from the bytes of its body before any engine has seen it.

Pure. Only a guess, which the engine's own counts replace when the request has ended: no model is loaded to tokenise
for it, and no body is parsed for it but one with a list of prompts.
"""

import re
from collections.abc import Iterator
from itertools import islice

import orjson

from llamaproxy.core.forms import is_form
from llamaproxy.core.limits import Want
from llamaproxy.core.routing import Endpoint

BYTES_PER_TOKEN = 4
"""Of English text in today's vocabularies. JSON's own marks count as text here, and stand for those of the chat
template; of code and other scripts a token has fewer bytes, down to 2."""
TEMPLATE = 32
"""Tokens that a chat template puts before the first message and after the last: SmolLM2's own system prompt has 20."""
COMPLETION = 1024
"""Tokens of an answer whose length nobody has limited, for each choice."""
MEDIUM = 1024
"""Tokens of a picture, or of a recording: its bytes say nothing about them."""
_LARGEST = 10**9

_CHATS = frozenset({"chat/completions", "responses", "messages", "upstream"})
_GENERATE_NOTHING = frozenset({"embeddings", "rerank"})
# In JSON a quote within a text has a backslash before it: nothing in a text can look like these.
_MOST = (b'"max_completion_tokens"', b'"max_tokens"', b'"max_output_tokens"', b'"n_predict"')
_CHOICES = b'"n"'
_MEDIUM = b";base64,"
_NUMBER = re.compile(rb"\s*:\s*(\d{1,18})(?=\s*[,}])")
"""What is no plain number (-1, null, 1e3) is no limit."""
_LIST_OF_PROMPTS = re.compile(rb'"prompt"\s*:\s*\[\s*["\[{]')
_PLACES = 256
"""Places that are looked at for each name: a body of nothing else would keep everybody waiting."""


def estimate(body: bytes, content_type: str, endpoint: Endpoint) -> Want:
    """Of one request. `light` ones generate nothing, and take no slot."""
    if endpoint.light:
        return Want(place=False)
    if is_form(content_type):
        return Want(MEDIUM, COMPLETION, stated=False)
    if endpoint.name in _GENERATE_NOTHING:
        return Want(_prompt(body))
    limits = [number for name in _MOST for number in _numbers(body, name)]
    choices = max([1, *_numbers(body, _CHOICES)]) * _prompts(body)
    # llama-server predicts one token even when asked for none.
    most = max(1, *limits) if limits else COMPLETION
    prompt = _prompt(body) + (TEMPLATE if endpoint.name in _CHATS else 0)
    return Want(prompt, min(most * choices, _LARGEST), stated=bool(limits))


def _prompts(body: bytes) -> int:
    """Prompts of one request, each with an answer of its own. Numbers are the tokens of a single one."""
    if not _LIST_OF_PROMPTS.search(body):
        return 1
    try:
        prompts = orjson.loads(body)["prompt"]
    except (ValueError, LookupError, TypeError):
        return 1  # it is in the midst of something, or the engine is to say what is wrong with it
    return len(prompts) if isinstance(prompts, list) else 1


def _prompt(body: bytes) -> int:
    """Rounded up, so that nothing is for free."""
    media = [body.find(b'"', at) - at for at in islice(_places(body, _MEDIUM), _PLACES)]
    text = len(body) - sum(length for length in media if length > 0)
    return -(-text // BYTES_PER_TOKEN) + len(media) * MEDIUM


def _numbers(body: bytes, name: bytes) -> Iterator[int]:
    """The values of all members with this name, wherever they are."""
    for at in islice(_places(body, name), _PLACES):
        if found := _NUMBER.match(body, at + len(name)):
            yield int(found[1])


def _places(body: bytes, what: bytes) -> Iterator[int]:
    at = body.find(what)
    while at >= 0:
        yield at
        at = body.find(what, at + len(what))
