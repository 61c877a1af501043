"""What every answer carries."""

import pytest

from llamaproxy.config import Config
from llamaproxy.core import headers
from llamaproxy.server.guard import Guard
from llamaproxy.server.stamp import request_id, stamp, stamped
from tests.server.mocked import mocked_request

GUARD = Guard(Config.model_validate({"server": {"allowed_origins": ["https://chat.example.com"]}}))


@pytest.mark.parametrize("given", ["r-1", "a" * 128, "A.b_c:d-9"])
async def test_harmless_id_of_the_client_is_kept(given: str) -> None:
    assert request_id(mocked_request("GET", "/", {"X-Request-Id": given})) == given


@pytest.mark.parametrize("given", ["", "a" * 129, "two words", "a\x7f", "caf\xe9"])
async def test_any_other_is_replaced_by_one_that_stays(given: str) -> None:
    request = mocked_request("GET", "/", {"X-Request-Id": given})
    made = request_id(request)
    assert made not in ("", given)
    assert request_id(request) == made != request_id(mocked_request("GET", "/"))


async def test_browser_is_told_of_allowed_origins_only() -> None:
    allowed = stamp(mocked_request("GET", "/", {"Origin": "https://chat.example.com"}), GUARD)
    assert allowed["Access-Control-Allow-Origin"] == "https://chat.example.com"
    assert allowed["Vary"] == "Origin"
    for origin in ("https://evil.example.com", ""):
        assert set(stamp(mocked_request("GET", "/", {"Origin": origin}), GUARD)) == {"X-Request-Id", "Server"}


@pytest.mark.parametrize("origin", ["https://chat.example.com", "https://evil.example.com", ""])
async def test_lines_of_a_head_tell_the_same(origin: str) -> None:
    request = mocked_request("GET", "/", {"Origin": origin})
    assert stamped(request, GUARD) == headers.lines(stamp(request, GUARD))
