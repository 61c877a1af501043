"""What the head of a request may be: limits, methods, codings, and what is wrong with one that cannot be read.

Pure. The parser is aiohttp's; here stands what it leaves open, and what its refusal is called. An intermediary that
takes what the server behind it reads in another way lets requests be smuggled, so that doubt is a refusal. Sources:
RFC 9110, RFC 9112. Must not know what a path means.
"""

import re
from collections.abc import Iterable, Mapping

from llamaproxy.errors import (
    ExpectationFailed,
    GatewayError,
    HeadersTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotImplementedHere,
    RequestTooLarge,
    UriTooLong,
    VersionNotSupported,
)

MOST_FIELDS = 96
"""Fields of a request: llama-server takes 100, and we add Host, Content-Length, X-Request-Id and Authorization."""
LONGEST_FIELD = 8192 - len(": \r\n")
"""Bytes of a field's name and value together: llama-server takes lines of 8 KiB, their end included."""
LONGEST_TARGET = 8192 - 64
"""Bytes of a request's target: with a long method, the version, and a prefix that it may get, the line has 8 KiB."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})
_VERSIONS = frozenset({(1, 0), (1, 1)})
_LONGEST_LENGTH = 15
"""Digits. Larger numbers overflow in parsers."""

_FORM = re.compile(r"https?://[^/?]|\*\Z", re.IGNORECASE)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VERSION = re.compile(rb"HTTP/(\d+)\.(\d+)")
_CODING = re.compile(rb"^transfer-encoding:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_CODING_NAME = re.compile(r"[a-z][a-z0-9-]*")


def check(method: str, target: str, version: tuple[int, int], fields: Mapping[str, str]) -> GatewayError | None:
    """What must not be served of a request that the parser took; `fields` are looked up in any case."""
    if version not in _VERSIONS:
        return VersionNotSupported("HTTP/1.1 and HTTP/1.0 are spoken here")
    if method not in METHODS:
        return _method(method)
    if (target[0] != "/" and not _FORM.match(target)) or "#" in target or not target.isascii():
        return InvalidRequest("the request's target must be a path or an http address, in ASCII, without a fragment")
    if (coding := fields.get("Transfer-Encoding")) is not None and (coding.lower() != "chunked" or version == (1, 0)):
        return _coding(coding)
    if len(fields.get("Content-Length", "")) > _LONGEST_LENGTH:
        return RequestTooLarge("the body is larger than any limit")
    if version == (1, 1) and fields.get("Expect", "100-continue").lower() != "100-continue":
        return ExpectationFailed("only `Expect: 100-continue` can be met")
    return None


def check_lengths(fields: Iterable[tuple[bytes, bytes]]) -> GatewayError | None:
    """What is too long for a line. aiohttp 3.14's parser in C forgets the names of all fields but the first."""
    if any(len(name) + len(value) > LONGEST_FIELD for name, value in fields):
        return _field_too_long()
    return None


def explain(head: bytes) -> GatewayError:
    """What the parser may have found wrong with this, which is the beginning of a head at least."""
    line, *lines = head.lstrip(b"\r\n").partition(b"\r\n\r\n")[0].split(b"\r\n")
    method, _, rest = line.partition(b" ")
    target, _, version = rest.partition(b" ")
    if not _TOKEN.fullmatch(method):
        return InvalidRequest("this is no HTTP request")
    if len(target) > LONGEST_TARGET:
        return UriTooLong(f"the request's target is longer than {LONGEST_TARGET} bytes")
    if target and not version:
        return VersionNotSupported("HTTP/0.9 is not spoken here")
    if (spoken := _VERSION.fullmatch(version)) and (int(spoken[1]), int(spoken[2])) not in _VERSIONS:
        return VersionNotSupported("HTTP/1.1 and HTTP/1.0 are spoken here")
    if spoken and method.decode() not in METHODS:
        return _method(method.decode())
    if any(len(one) > LONGEST_FIELD for one in lines):
        return _field_too_long()
    if len(lines) >= MOST_FIELDS:
        return HeadersTooLarge(f"the request has more than {MOST_FIELDS} header fields")
    return _codings(head) or InvalidRequest("the request is not well-formed HTTP/1.1")


def _field_too_long() -> GatewayError:
    return HeadersTooLarge(f"a header field is longer than {LONGEST_FIELD} bytes")


def _codings(head: bytes) -> GatewayError | None:
    """One that is unknown; what else may be wrong with transfer codings is malformed like anything else."""
    for found in _CODING.findall(head):
        coding = found.decode("latin-1").lower()
        if _CODING_NAME.fullmatch(coding) and coding != "chunked":
            return _coding(coding)
    return None


def _coding(coding: str) -> GatewayError:
    if {name.strip() for name in coding.lower().split(",")} <= {"chunked", ""}:
        return InvalidRequest("a transfer coding has a name; chunked is named once, and not in HTTP/1.0")
    return NotImplementedHere(f"the transfer coding {coding[:100]!r} is not known here")


def _method(method: str) -> GatewayError:
    if method in _REFUSED_METHODS:
        return MethodNotAllowed.taking("the gateway", METHODS)
    return NotImplementedHere(f"the method {method[:100]!r} is not known here")
