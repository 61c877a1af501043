"""How many tokens a request may take, told from the bytes of its body before any engine has seen it.

Pure. Only a guess, which the engine's own counts replace when the request has ended: no model is loaded to tokenise
for it, and no body is parsed for it.
"""

import re

from llamaproxy.core.forms import is_form
from llamaproxy.core.limits import Want
from llamaproxy.core.routing import Endpoint

BYTES_PER_TOKEN = 4
"""Of English text in today's vocabularies. JSON's own marks count as text here, and stand for those of the chat
template; of code and other scripts a token has fewer bytes, down to 2."""
COMPLETION = 1024
"""Tokens of an answer whose length nobody has limited, for each choice."""
MEDIUM = 1024
"""Tokens of a picture, or of a recording: its bytes say nothing about them."""
_LARGEST = 10**9

_GENERATE_NOTHING = frozenset({"embeddings", "rerank"})
# In JSON a quote within a text has a backslash before it: nothing in a text can look like these. What is no plain
# number (-1, null, 1e3) is no limit.
_MOST = re.compile(rb'"(?:max_completion_tokens|max_tokens|max_output_tokens|n_predict)"\s*:\s*(\d{1,18})(?=\s*[,}])')
_CHOICES = re.compile(rb'"n"\s*:\s*(\d{1,9})(?=\s*[,}])')
_MEDIUM = re.compile(rb';base64,[^"]*')


def estimate(body: bytes, content_type: str, endpoint: Endpoint) -> Want:
    """Of one request. `light` ones generate nothing, and take no slot."""
    if endpoint.light:
        return Want(place=False)
    if is_form(content_type):
        return Want(MEDIUM, COMPLETION, stated=False)
    if endpoint.name in _GENERATE_NOTHING:
        return Want(_prompt(body))
    limits = [int(found) for found in _MOST.findall(body)]
    choices = max((1, *map(int, _CHOICES.findall(body))))
    # llama-server predicts one token even when asked for none.
    most = max(1, *limits) if limits else COMPLETION
    return Want(_prompt(body), min(most * choices, _LARGEST), stated=bool(limits))


def _prompt(body: bytes) -> int:
    """Rounded up, so that nothing is for free."""
    size, media = len(body), 0
    if b";base64," in body:
        media = sum(1 for _ in _MEDIUM.finditer(body))
        size -= sum(found.end() - found.start() for found in _MEDIUM.finditer(body))
    return -(-size // BYTES_PER_TOKEN) + media * MEDIUM
