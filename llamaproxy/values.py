"""The kinds of values that configuration has: how each may be written, and what is none.

Types for fields, each with its check. Knows no key: `config` does.
"""

import ipaddress
import json
import math
import re
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, AwareDatetime, BeforeValidator, Field, JsonValue, SecretStr

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_DURATION_UNITS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,127}")
_RESERVED = frozenset({"history"})
"""What can be asked below /api/models beside the names of models."""
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+/?", re.IGNORECASE)
_BASE_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_URL = re.compile(r"[a-z]+://[!-\"$->@-~]+", re.IGNORECASE)
_SECRET = re.compile(r"[!-~]{1,4096}")
_LARGEST_SIZE = 2**53
"""Bytes: the last integer that every reader of JSON understands."""

LARGEST_COUNT = 2**31 - 1
"""What fits llama-server's own integers."""


def parse_duration(value: object) -> object:
    """Seconds from `90`, `"90s"`, `"5m"`, `"1.5h"`; anything that is not such a text is left for the type to judge."""
    if not isinstance(value, str):
        return value
    if not (match := _DURATION.fullmatch(value.strip())):
        raise ValueError(f'{value!r:.80} is not a duration such as 30, "90s" or "5m"')
    return float(match[1]) * _DURATION_UNITS[match[2]]


def parse_size(value: object) -> object:
    """Bytes from `1024`, `"64MiB"`, `"2GB"`; anything that is not such a text is left for the type to judge."""
    if not isinstance(value, str):
        return value
    if not (match := _SIZE.fullmatch(value.strip())):
        raise ValueError(f'{value!r:.80} is not a size such as 1048576 or "64MiB"')
    power = " kmgt".index((match[2] or " ").lower())
    size = float(match[1]) * (1024 if match[3] else 1000) ** power
    return int(size) if math.isfinite(size) else size


def split(value: object) -> object:
    """A list that came as text, as from the environment: a JSON list, or words with commas between them."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a JSON list: {error}") from error
    return [part.strip() for part in value.split(",") if part.strip()]


def read_table(value: object) -> object:
    """A table that came as text, as from the environment: a JSON object."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a JSON object: {error}") from error


def _in_utc(value: datetime) -> datetime:
    """Beyond years that have four digits, other zones overflow."""
    try:
        return value.astimezone(UTC)
    except (OverflowError, ValueError):
        raise ValueError("must lie between the years 1 and 9999") from None


def check_name(value: str) -> str:
    """The name of a model or key, if it is one. Raises ValueError.

    Names stand in paths, where clients resolve empty parts and those that are dots before they ask.
    """
    if not _NAME.fullmatch(value):
        raise ValueError("a name has 1 to 128 letters, digits and . _ : / + @ -, and begins with a letter or digit")
    if not {"", ".", ".."}.isdisjoint(value.split("/")):
        raise ValueError("no part of a name between slashes may be empty, . or ..")
    return value


def check_model_name(value: str) -> str:
    """One that a model may have, too. Raises ValueError."""
    if check_name(value) in _RESERVED:
        raise ValueError(f"no model can have the name {value}: /api/models/{value} tells something of all models")
    return value


def _check_host(value: str) -> str:
    if _HOST.fullmatch(value):
        return value
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError(
            f'{value!r:.80} is not a host name such as "gateway.example.com"; scheme and port do not belong to it'
        ) from None


def _check_origin(value: str) -> str:
    if not _ORIGIN.fullmatch(value):
        raise ValueError(f'{value!r:.80} is not an origin such as "https://chat.example.com"')
    return value


def _check_base_path(value: str) -> str:
    if not _BASE_PATH.fullmatch(value) or {".", ".."} & set(value.split("/")):
        raise ValueError('must be empty, or a path such as "/llm", without a / at its end')
    return value


def _check_url(value: str) -> str:
    """The base address without a slash or `/v1` at its end: both spellings mean the same server."""
    try:
        parts = urlsplit(value)
        _check_host(parts.hostname or "")
        good = parts.scheme in ("http", "https") and parts.port != 0
    except ValueError:
        good = False
    if not good or not _URL.fullmatch(value):
        raise ValueError('not the address of a server such as "http://10.0.0.5:8000" or "https://llm.example.com/v1"')
    if parts.username is not None:
        raise ValueError("a name or password does not belong into it; a key belongs into api_key")
    return value.rstrip("/").removesuffix("/v1").rstrip("/")


def _check_secret(value: SecretStr) -> SecretStr:
    """What becomes part of a header."""
    if not _SECRET.fullmatch(value.get_secret_value()):
        raise ValueError("a key has 1 to 4096 printable ASCII characters, and no blanks")
    return value


def _check_text(value: str) -> str:
    """What becomes part of a process's arguments or environment, where NUL is the end."""
    if "\0" in value:
        raise ValueError("must not contain NUL")
    return value


def _check_parameter(name: str) -> str:
    """What neither configuration may decide for a client: who answers, and in which shape."""
    if name in ("model", "stream"):
        raise ValueError("model and stream are the client's own")
    return name


def _check_sendable(value: JsonValue) -> JsonValue:
    """What JSON can say and every reader of it understands. Numbers beyond 64 bits, NaN and infinity are none such."""
    try:
        json.dumps(value, allow_nan=False)
        orjson.dumps(value)
    except (ValueError, TypeError) as error:
        raise ValueError(f"cannot be sent as JSON: {error}") from error
    return value


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, allow_inf_nan=False)]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0, le=_LARGEST_SIZE)]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(_check_host)], ...], BeforeValidator(split)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_check_origin)], ...], BeforeValidator(split)]
KeyName = Annotated[str, AfterValidator(check_name)]
ModelName = Annotated[str, AfterValidator(check_model_name)]
ModelNames = Annotated[tuple[ModelName, ...], BeforeValidator(split)]
Text = Annotated[str, AfterValidator(_check_text)]
Name = Annotated[str, Field(min_length=1), AfterValidator(_check_text)]
Arguments = Annotated[tuple[Text, ...], BeforeValidator(split)]
Url = Annotated[str, Field(max_length=2000), AfterValidator(_check_url)]
Secret = Annotated[SecretStr, AfterValidator(_check_secret)]
RequestPath = Annotated[str, Field(pattern=r"^/[!-\"$-~]*$", max_length=1000)]
BasePath = Annotated[str, Field(max_length=200), AfterValidator(_check_base_path)]
ParameterName = Annotated[str, Field(pattern=r"^[!-~]{1,128}$"), AfterValidator(_check_parameter)]
ParameterNames = Annotated[tuple[ParameterName, ...], BeforeValidator(split)]
Parameters = Annotated[
    dict[ParameterName, Annotated[JsonValue, AfterValidator(_check_sendable)]], BeforeValidator(read_table)
]
Environment = dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Text]
