"""How an exchange with an engine breaks off: told of the connection, or of the whole exchange.

After `UpstreamLost` nothing of an answer has gone anywhere, and the request may be sent again. After `ConnectionLost`
that is for whoever relays to say.
"""

from llamaproxy.core.response import BadResponse


class ConnectionLost(Exception):
    """The engine closed the connection, or it broke. `heard`: some of the response had come."""

    def __init__(self, reason: str, heard: bool) -> None:
        super().__init__(reason)
        self.heard = heard


class ConnectionSilent(ConnectionLost):
    """Nothing came for as long as was waited, and the connection was closed for it."""


class UpstreamLost(Exception):
    """No answer, or none that can be understood, and nothing of it has gone anywhere."""


class UpstreamSilent(UpstreamLost):
    """No answer within the time that it was given."""


def unanswered(error: ConnectionLost | BadResponse) -> UpstreamLost:
    """What it is for an exchange whose answer had not begun."""
    return UpstreamSilent(str(error)) if isinstance(error, ConnectionSilent) else UpstreamLost(str(error))
