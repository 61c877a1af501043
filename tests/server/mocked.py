"""Requests that no client made."""

from collections.abc import Mapping
from typing import Any

from aiohttp.test_utils import make_mocked_request

from llamaproxy.server.incoming import Request


def mocked_request(method: str, path: str, headers: Mapping[str, str] | None = None) -> Request:
    """One as the gateway's server makes it. Without content."""
    return ours(make_mocked_request(method, path, headers))


def ours(request: Any) -> Request:
    """The same as one of aiohttp's own."""
    parts = (request._message, request._payload, request._protocol, request._payload_writer)
    return Request(*parts, request._task, request._loop)
