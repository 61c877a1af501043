"""llamaproxy.config: defaults, ranges and the rules between keys; no file, no environment, no clock."""

from datetime import date
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from llamaproxy.config import (
    BreakerConfig,
    CatalogConfig,
    Config,
    EngineConfig,
    KeyConfig,
    LimitsConfig,
    ModelConfig,
    ServerConfig,
    TelemetryConfig,
)
from llamaproxy.values import check_name

SECTIONS: list[type[BaseModel]] = [
    ServerConfig,
    EngineConfig,
    LimitsConfig,
    BreakerConfig,
    CatalogConfig,
    TelemetryConfig,
    ModelConfig,
    KeyConfig,
]
GOOD_HASH = "0123456789abcdef" * 4


def model(**settings: Any) -> dict[str, Any]:
    return {"path": "/models/m.gguf", **settings}


def make(**sections: Any) -> Config:
    return Config.model_validate(sections)


def faults(**sections: Any) -> dict[str, str]:
    """Where the configuration is wrong, and what is said about it; fails where it is good."""
    with pytest.raises(ValidationError) as caught:
        make(**sections)
    return {".".join(map(str, fault["loc"])): fault["msg"] for fault in caught.value.errors()}


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("server", "host", "127.0.0.1"),
        ("server", "port", 8080),
        ("server", "max_body", 64 * 1024 * 1024),
        ("server", "body_timeout", 60),
        ("server", "drain_timeout", 30),
        ("server", "allowed_hosts", ()),
        ("engine", "binary", "auto"),
        ("engine", "start_timeout", 300),
        ("engine", "stop_timeout", 10),
        ("engine", "first_byte_timeout", 600),
        ("engine", "idle_timeout", 300),
        ("engine", "allow_unsafe_args", False),
        ("limits", "models_max", 2),
        ("limits", "linger", None),
        ("limits", "max_wait", 15),
        ("limits", "min_residency", 5),
        ("limits", "queue_size", 512),
        ("limits", "queue_timeout", 300),
        ("breaker", "start_failures", 3),
        ("breaker", "request_failures", 5),
        ("breaker", "open", 10),
        ("breaker", "open_max", 300),
        ("catalog", "bundled", True),
        ("telemetry", "database", None),
        ("telemetry", "metrics_interval", 2),
        ("telemetry", "retention", 30 * 86400),
        ("telemetry", "retention_bytes", 1024**3),
        ("telemetry", "log_level", "info"),
    ],
)
def test_defaults_are_those_of_the_contract(section: str, key: str, value: object) -> None:
    assert getattr(getattr(Config(), section), key) == value


def test_a_model_needs_nothing_but_its_path() -> None:
    assert ModelConfig(path="m.gguf").model_dump(exclude_defaults=True) == {"path": "m.gguf"}
    assert faults(models={"m": {}}) == {
        "models.m": "Value error, exactly one of path, command, url must be set",
    }


class TestOtherServers:
    """A model that no llama-server of ours serves."""

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({"path": "m", "url": "http://h"}, "exactly one of path, command, url must be set, not path and url"),
            ({"path": "m", "command": ["x", "${port}"]}, "must be set, not path and command"),
            ({"url": "http://h", "gpu_layers": 1, "mmproj": "p"}, "a model with url takes no mmproj, gpu_layers"),
            ({"url": "http://h", "env": {"A": "1"}}, "a model with url takes no env"),
            ({"url": "http://h", "ttl": 5, "pinned": True}, "a model with url takes no ttl, pinned"),
            ({"command": ["x", "${port}"], "args": ["-v"]}, "a model with command takes no args"),
            ({"command": ["x", "${port}"], "api_key": "k"}, "a model with command takes no api_key"),
            ({"path": "m", "upstream_name": "n"}, "a model with path takes no upstream_name"),
            ({"command": ["x"]}, "exactly one of ${port} and ${socket}"),
            ({"command": ["x", "${port}", "${socket}"]}, "exactly one of ${port} and ${socket}"),
            ({"command": ["x", "${socket}"], "port": 9000}, "exactly one of ${port} and ${socket}"),
            ({"command": ["x", "${PORT}"]}, "${PORT} is no placeholder"),
            ({"command": ["x", "${port}"], "env": {"A": "${home}"}}, "${home} is no placeholder"),
            ({"command": ["serve --port ${port}"]}, "its first word is a program"),
        ],
    )
    def test_what_does_not_go_together(self, settings: dict[str, Any], told: str) -> None:
        assert told in faults(models={"m": settings})["models.m"]

    @pytest.mark.parametrize(
        ("settings", "needs_port"),
        [
            ({"command": ["x", "${port}"]}, True),
            ({"command": ["x", "--listen=127.0.0.1:${port}"], "port": 9000}, True),
            ({"command": ["x", "9000"], "port": 9000}, False),
            ({"command": ["x", "${socket}", "${name}"], "env": {"KEY": "${api_key}"}}, False),
            ({"url": "http://h"}, False),
            ({"path": "m"}, False),
        ],
    )
    def test_where_it_listens(self, settings: dict[str, Any], needs_port: bool) -> None:
        model = ModelConfig.model_validate(settings)
        assert (model.kind in settings, model.needs_port) == (True, needs_port)

    @pytest.mark.parametrize(
        ("url", "base"),
        [
            ("http://10.0.0.5:8000", "http://10.0.0.5:8000"),
            ("http://10.0.0.5:8000/", "http://10.0.0.5:8000"),
            ("https://llm.example.com/v1", "https://llm.example.com"),
            ("https://llm.example.com/v1/", "https://llm.example.com"),
            ("https://example.com/team-a/v1//", "https://example.com/team-a"),
            ("https://example.com/api/v10", "https://example.com/api/v10"),
            ("HTTP://[::1]:8000", "HTTP://[::1]:8000"),
        ],
    )
    def test_addresses_with_and_without_v1_mean_the_same(self, url: str, base: str) -> None:
        assert ModelConfig(url=url).url == base

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "10.0.0.5:8000",
            "ftp://h",
            "http://",
            "http:///v1",
            "http://h:0",
            "http://h:99999",
            "http://h/?a=b",
            "http://h/#a",
            "http://h\r\nX: y",
            "http://h /",
            "file:///etc/passwd",
            "http://[::1",
            "http://" + "h" * 2000,
        ],
    )
    def test_what_is_no_address(self, url: str) -> None:
        assert list(faults(models={"m": {"url": url}})) == ["models.m.url"]

    def test_a_key_in_an_address_is_sent_to_its_place(self) -> None:
        assert "api_key" in faults(models={"m": {"url": "http://user:secret@h"}})["models.m.url"]

    @pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "clé", "x" * 4097])
    def test_a_key_must_fit_a_header_and_is_not_told(self, key: str) -> None:
        fault = faults(models={"m": {"url": "http://h", "api_key": key}})
        assert list(fault) == ["models.m.api_key"]
        assert not key or key not in fault["models.m.api_key"]

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("health_path", "health"),
            ("health_path", "/a b"),
            ("health_path", "/a#b"),
            ("health_interval", 0),
            ("upstream_name", ""),
            ("upstream_name", "a\r\nb"),
        ],
    )
    def test_what_else_is_refused(self, key: str, value: object) -> None:
        assert list(faults(models={"m": {"url": "http://h", key: value}})) == [f"models.m.{key}"]

    def test_a_key_is_nowhere_to_be_read(self) -> None:
        config = make(models={"m": {"url": "http://h", "api_key": "hunter2"}})
        assert "hunter2" not in f"{config!r} {config.model_dump_json()}"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_says_what_it_means(section: type[BaseModel]) -> None:
    for key, field in section.model_fields.items():
        assert field.description, key
        if field.default is None:
            assert "unset" in field.description, f"{key}: what happens without it?"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("server", "port", -1),
        ("server", "port", 65536),
        ("server", "port", 8080.5),
        ("server", "ollama_port", 0),
        ("server", "ollama_port", True),
        ("server", "lmstudio_port", 65536),
        ("server", "host", ""),
        ("server", "max_body", 0),
        ("server", "max_body", "0.1"),
        ("server", "max_body", 2**53 + 1),
        pytest.param("server", "max_body", "9" * 400, id="an endless size"),
        ("server", "body_timeout", 0),
        ("server", "body_timeout", -1),
        ("server", "body_timeout", float("nan")),
        ("server", "body_timeout", float("inf")),
        pytest.param("server", "body_timeout", "9" * 400, id="an endless duration"),
        ("server", "drain_timeout", -0.1),
        ("server", "drain_timeout", float("nan")),
        ("server", "drain_timeout", float("inf")),
        ("engine", "binary", ""),
        ("engine", "args", 5),
        ("engine", "args", ["a\0b"]),
        ("engine", "args", "[1]"),
        ("engine", "args", "[oops"),
        pytest.param("engine", "args", "[" * 50_000, id="a deep list"),
        ("limits", "models_max", 0),
        ("limits", "models_max", 1001),
        ("limits", "linger", -1),
        ("limits", "queue_size", 0),
        ("limits", "queue_size", 100_001),
        ("breaker", "start_failures", 0),
        ("breaker", "request_failures", 10**30),
        ("breaker", "open", 0),
        ("telemetry", "log_level", "loud"),
        ("catalog", "bundled", "perhaps"),
    ],
)
def test_what_a_section_refuses(section: str, key: str, value: object) -> None:
    assert [where.split(".")[:2] for where in faults(**{section: {key: value}})] == [[section, key]]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", ""),
        ("path", "a\0b"),
        ("mmproj", "a\0b"),
        ("ctx_size", -1),
        ("ctx_size", 2**31),
        ("batch_size", 0),
        ("batch_size", 2**31),
        ("threads", 0),
        ("gpu_layers", -2),
        ("parallel", 0),
        ("port", 80),
        ("port", 32768),
        ("ttl", 0),
        ("ttl", "-1s"),
        ("priority", 1001),
        ("concurrency", 0),
        ("queue_size", -1),
        ("description", "x" * 1001),
    ],
)
def test_what_a_model_refuses(key: str, value: object) -> None:
    assert list(faults(models={"m": model(**{key: value})})) == [f"models.m.{key}"]


def test_the_edges_are_inside() -> None:
    config = make(
        server={"port": 0, "max_body": 1, "drain_timeout": 0},
        limits={"models_max": 1000, "linger": 0, "queue_size": 1},
        models={"m": model(ctx_size=0, gpu_layers=-1, port=32767, queue_size=0, ttl="1ms", priority=-1000)},
    )
    assert (config.server.port, config.limits.linger, config.models["m"].ttl) == (0, 0, 0.001)


@pytest.mark.parametrize("value", [True, False])
def test_truth_is_no_number(value: bool) -> None:
    told = f"Value error, must not be {str(value).lower()}"
    assert faults(server={"port": value}) == {"server.port": told}
    assert faults(engine={"stop_timeout": value}) == {"engine.stop_timeout": told}
    assert faults(models={"m": model(parallel=value)}) == {"models.m.parallel": told}
    assert make(engine={"allow_unsafe_args": value}).engine.allow_unsafe_args is value


@pytest.mark.parametrize(
    "name", ["a", "Qwen3-0.6B", "qwen3:0.6b", "org/model", "a/b/c.gguf", "gpt-4o+x", "me@home", "x" * 128]
)
def test_names(name: str) -> None:
    assert check_name(name) == name
    assert name in make(models={name: model()}).models


BAD_NAMES = [
    "",
    " ",
    "a b",
    "-a",
    ".hidden",
    "../../etc/passwd",
    "a/../../etc/passwd",
    "a/./b",
    "a/..",
    "a//b",
    "a/",
    "/a",
    "a\\b",
    "a\r\nX-Evil: 1",
    "a\n",
    "a\0",
    "\x1b[31mred",
    "a\x1b[31m",
    "<script>",
    "a%2e",
    "a?b",
    "a#b",
    'a"b',
    "müller",
    "\u202eabc",
    "x" * 129,
]


def test_names_that_models_cannot_have() -> None:
    """Nobody could ask for them."""
    for models in ({"history": model()}, {"m": model(aliases=["history"])}):
        with pytest.raises(ValidationError, match="no model can have the name history: /api/models/history tells"):
            make(models=models)
    assert "history" in make(models={"m": model()}, keys={"history": {"sha256": GOOD_HASH}}).keys


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_bad_names(name: str) -> None:
    with pytest.raises(ValueError, match=r"name"):
        check_name(name)
    assert len(faults(models={name: model()})) == 1
    assert len(faults(models={"m": model(aliases=[name])})) == 1
    assert len(faults(keys={name: {"sha256": GOOD_HASH}})) == 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("--jinja", ("--jinja",)),
        ("--jinja, --mlock , ,", ("--jinja", "--mlock")),
        ("", ()),
        (",", ()),
        ('["--temp", "0.5, exactly"]', ("--temp", "0.5, exactly")),
        ('  ["a"]', ("a",)),
        ("[]", ()),
    ],
)
def test_a_list_may_come_as_text(text: str, parts: tuple[str, ...]) -> None:
    assert make(engine={"args": text}).engine.args == parts


@pytest.mark.parametrize("host", ["gateway", "gw.example.com", "my_service", "a-b.c", "10.0.0.7", "::1", "2001:DB8::1"])
def test_allowed_hosts(host: str) -> None:
    assert make(server={"allowed_hosts": [host]}).server.allowed_hosts[0].lower() == host.lower()


@pytest.mark.parametrize(
    "host", ["", "*", "*.example.com", "gw:8080", "https://gw", "gw/", "[::1]", "a b", "a@b", "gw.", "müller.example"]
)
def test_what_is_no_host(host: str) -> None:
    assert list(faults(server={"allowed_hosts": [host]})) == ["server.allowed_hosts.0"]


@pytest.mark.parametrize(
    "origin", ["https://chat.example.com", "http://localhost:3000", "http://[::1]:3000/", "app://obsidian.md"]
)
def test_allowed_origins(origin: str) -> None:
    assert make(server={"allowed_origins": [origin]}).server.allowed_origins == (origin,)


@pytest.mark.parametrize("path", ["", "/llm", "/a/b", "/a.b/~c_d-e"])
def test_base_path(path: str) -> None:
    assert make(server={"base_path": path}).server.base_path == path


@pytest.mark.parametrize(
    "path", ["/", "llm", "/llm/", "//llm", "/a/../b", "/.", "/a b", "/%61", "/a?b", "/a;b", "/" + "a" * 200]
)
def test_what_is_no_base_path(path: str) -> None:
    with pytest.raises(ValidationError):
        make(server={"base_path": path})


@pytest.mark.parametrize(
    "origin", ["", "*", "null", "https://*", "example.com", "https://a/b", "https://u@a", "https://a?b"]
)
def test_what_is_no_origin(origin: str) -> None:
    assert list(faults(server={"allowed_origins": [origin]})) == ["server.allowed_origins.0"]


@pytest.mark.parametrize("name", ["", "1A", "A B", "A=B", "A\n", "A-B", "Ä"])
def test_variables_have_names_that_a_process_can_have(name: str) -> None:
    assert faults(engine={"env": {name: "x"}})
    assert faults(models={"m": model(env={name: "x"})})


def test_variables_are_texts_without_nul() -> None:
    assert make(engine={"env": {"Mixed_Case1": "ä b=c"}}).engine.env == {"Mixed_Case1": "ä b=c"}
    assert faults(engine={"env": {"A": "x\0y"}}) == {"engine.env.A": "Value error, must not contain NUL"}
    assert faults(engine={"env": {"A": 5}})


@pytest.mark.parametrize("digest", ["", "x" * 64, GOOD_HASH[1:], GOOD_HASH + "0", GOOD_HASH + "\n", GOOD_HASH.upper()])
def test_a_key_is_known_by_its_hash(digest: str) -> None:
    assert make(keys={"alice": {"sha256": GOOD_HASH}}).keys["alice"].sha256 == GOOD_HASH
    assert list(faults(keys={"alice": {"sha256": digest}})) == ["keys.alice.sha256"]


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("models", ["m", "org/n"], [5]),
        ("models", "a,b", ["a b"]),
        ("rpm", 1, 0),
        ("tpm", 10**9, 10**10),
        ("concurrency", 1, True),
        ("priority", -5, 5000),
        ("admin", True, "perhaps"),
        ("expires", "2030-01-31T12:00:00+02:00", "2030-01-31T12:00:00"),
        ("expires", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00"),
        ("expires", "9999-12-31T23:59:59Z", "tomorrow"),
    ],
)
def test_rules_of_a_key(rule: str, good: object, bad: object) -> None:
    make(keys={"alice": {"sha256": GOOD_HASH, rule: good}})
    assert [
        where.startswith(f"keys.alice.{rule}") for where in faults(keys={"alice": {"sha256": GOOD_HASH, rule: bad}})
    ]


def test_one_hash_is_one_key() -> None:
    same = {"sha256": GOOD_HASH}
    assert "keys.b.sha256: the key" in faults(keys={"a": same, "b": same})[""]


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (
            {"a": model(aliases=["x"]), "b": model(aliases=["x"])},
            "models.b.aliases: the name 'x' is already used by models.a",
        ),
        ({"a": model(aliases=["b"]), "b": model()}, "models.a.aliases: the name 'b' is already used by models.b"),
        ({"a": model(aliases=["a"])}, "models.a.aliases: the name 'a' is already used by models.a"),
        ({"a": model(aliases=["x", "x"])}, "models.a.aliases: the name 'x' is already used by models.a.aliases"),
        (
            {"a": model(port=9001), "b": model(port=9001)},
            "models.b.port: the port '9001' is already used by models.a.port",
        ),
        ({"a": model(port=8080)}, "models.a.port: the port '8080' is already used by server.port"),
    ],
)
def test_names_and_ports_are_taken_once(models: dict[str, Any], told: str) -> None:
    assert told in faults(models=models)[""]


@pytest.mark.parametrize(
    ("server", "told"),
    [
        ({"ollama_port": 8080}, "server.ollama_port: the port '8080' is already used by server.port"),
        (
            {"ollama_port": 1234, "lmstudio_port": 1234},
            "server.lmstudio_port: the port '1234' is already used by server.ollama_port",
        ),
        ({"lmstudio_port": 9001}, "models.a.port: the port '9001' is already used by server.lmstudio_port"),
    ],
)
def test_listeners_have_ports_of_their_own(server: dict[str, Any], told: str) -> None:
    assert told in faults(server=server, models={"a": model(port=9001)})[""]


def test_what_may_stand_together() -> None:
    make(server={"port": 0}, models={"a": model(port=8080, aliases=["x", "y"]), "b": model(), "c": model(port=9001)})
    make(models={"A": model(), "a": model()}, keys={"a": {"sha256": GOOD_HASH}})


@pytest.mark.parametrize("section", ["", "server", "engine", "limits", "breaker", "catalog", "telemetry"])
def test_unknown_keys_are_refused(section: str) -> None:
    told = faults(**({section: {"no_such_key": 1}} if section else {"no_such_key": 1}))
    assert told == {".".join(filter(None, (section, "no_such_key"))): "Extra inputs are not permitted"}


def test_a_configuration_does_not_change() -> None:
    config = make(models={"m": model()})
    for part, key in ((config, "server"), (config.server, "port"), (config.models["m"], "path")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, key, getattr(part, key))


class TestParameters:
    def model(self, **settings: Any) -> ModelConfig:
        return ModelConfig.model_validate({"path": "a.gguf", **settings})

    def test_any_json_can_be_put_and_any_names_taken_out(self) -> None:
        values = {"temperature": 0.5, "a": {"b": [None, True, "x"]}}
        assert self.model(set_params=values).set_params == values
        assert self.model(strip_params=["top_k", "seed"]).strip_params == ("top_k", "seed")

    def test_from_the_environment_they_come_as_text(self) -> None:
        assert self.model(set_params='{"temperature": 0.5}').set_params == {"temperature": 0.5}
        assert self.model(strip_params="top_k, seed").strip_params == ("top_k", "seed")

    @pytest.mark.parametrize(
        "settings",
        [
            {"set_params": {"model": "x"}},
            {"strip_params": ["model"]},
            {"set_params": {"stream": True}},
            {"strip_params": "stream"},
            {"set_params": {"": 1}},
            {"set_params": {"größe": 1}},
            {"strip_params": ["a b"]},
            {"set_params": {"t": float("nan")}},
            {"set_params": {"t": [float("inf")]}},
            {"set_params": {"t": 2**70}},
            {"set_params": {"t": date(2026, 1, 1)}},
            {"set_params": "{"},
            {"set_params": "[1]"},
            {"set_params": [1]},
            {"set_params": {str(number): 1 for number in range(101)}},
            {"strip_params": ["x" * 129]},
        ],
    )
    def test_what_cannot_be_sent_or_is_the_clients_own(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            self.model(**settings)

    def test_a_process_knows_nothing_of_them(self) -> None:
        assert self.model().starts_like(self.model(set_params={"a": 1}, strip_params=["b"]))
