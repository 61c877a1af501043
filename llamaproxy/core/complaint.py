"""Whether an engine that answers 500 complains of the request, or has failed.

Pure. llama-server says 500 `server_error` to some mistakes of clients as it does to its own failures: an image for a
model without a projector, tools or messages it cannot parse, a token that there is none. Counted as failures, a few of
them from one client would open the model's breaker for everybody. Source: tried on b11434. What is not known here
counts against the engine.
"""

import re

_MOST = 4096
"""Bytes of an answer that are looked at: the words come first, what the client sent after them."""
_OF_CLIENTS = re.compile(
    rb'"message":\s*"(?:Failed to parse (?:tools|messages):|\w+ input is not supported|vector::_M_range_check:)'
)


class Complaint:
    """One answer with status 500, as it comes."""

    def __init__(self) -> None:
        self._said = b""

    def feed(self, content: bytes) -> None:
        if len(self._said) < _MOST:
            self._said += content[:_MOST]

    @property
    def of_client(self) -> bool:
        """Whether the request is at fault."""
        return _OF_CLIENTS.search(self._said) is not None
