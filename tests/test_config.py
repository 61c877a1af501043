"""llamaproxy.config: defaults, ranges and the rules between tables; no file, no environment, no clock."""

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
    ServerConfig,
    TelemetryConfig,
)
from llamaproxy.modelconfig import ModelConfig
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


def test_the_edges_are_inside() -> None:
    config = make(
        server={"port": 0, "max_body": 1, "drain_timeout": 0},
        limits={"models_max": 1000, "linger": 0, "queue_size": 1},
        models={"m": model(ctx_size=0, gpu_layers=-1, port=32767, queue_size=0, ttl="1ms", priority=-1000)},
    )
    assert (config.server.port, config.limits.linger, config.models["m"].ttl) == (0, 0, 0.001)


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
