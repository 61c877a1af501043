"""llamaproxy.backends.lost: what a broken connection is to the exchange on it."""

import pytest

from llamaproxy.backends.lost import ConnectionLost, ConnectionSilent, UpstreamLost, UpstreamSilent, unanswered
from llamaproxy.core.response import BadResponse


@pytest.mark.parametrize(
    ("error", "is_told"),
    [
        (ConnectionLost("it broke", heard=False), UpstreamLost),
        (ConnectionSilent("it broke", heard=True), UpstreamSilent),
        (BadResponse("it broke"), UpstreamLost),
    ],
)
def test_only_silence_is_told_apart(error: ConnectionLost | BadResponse, is_told: type[UpstreamLost]) -> None:
    lost = unanswered(error)
    assert type(lost) is is_told
    assert str(lost) == "it broke"
