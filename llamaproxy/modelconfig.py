"""What a gateway can be told of one model: its keys, and which of them go together.

A model is served by llama-server, by another program, or by somebody elsewhere; what would do nothing for its kind is
refused. Owns also which settings its process knows of. Must not look for the model or try its port.
"""

from pydantic import Field, field_validator, model_validator

from llamaproxy import placeholders
from llamaproxy.section import Section
from llamaproxy.values import (
    LARGEST_COUNT,
    Arguments,
    Environment,
    ModelNames,
    Name,
    ParameterNames,
    Parameters,
    PositiveSeconds,
    RequestPath,
    Secret,
    Text,
    Url,
)


class ModelConfig(Section):
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
        le=LARGEST_COUNT,
        description="context size in tokens, all slots together; unset or 0: the model's own",
    )
    batch_size: int | None = Field(
        None, ge=1, le=LARGEST_COUNT, description="logical batch size in tokens; unset: the engine's choice"
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
