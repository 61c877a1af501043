"""llamaproxy.modelconfig: what may be said of a model, and what goes together; no file, no environment, no clock."""

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from llamaproxy.modelconfig import ModelConfig


def model(**settings: Any) -> ModelConfig:
    return ModelConfig.model_validate({"path": "a.gguf", **settings})


def faults(**settings: Any) -> dict[str, str]:
    """Where the table is wrong, and what is said about it; fails where it is good."""
    with pytest.raises(ValidationError) as caught:
        ModelConfig.model_validate(settings)
    return {".".join(map(str, fault["loc"])): fault["msg"] for fault in caught.value.errors()}


def test_a_model_needs_nothing_but_its_path() -> None:
    assert ModelConfig(path="m.gguf").model_dump(exclude_defaults=True) == {"path": "m.gguf"}
    assert faults() == {"": "Value error, exactly one of path, command, url must be set"}


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
        assert told in faults(**settings)[""]

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
        made = ModelConfig.model_validate(settings)
        assert (made.kind in settings, made.needs_port) == (True, needs_port)

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
        assert list(faults(url=url)) == ["url"]

    def test_a_key_in_an_address_is_sent_to_its_place(self) -> None:
        assert "api_key" in faults(url="http://user:secret@h")["url"]

    @pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "clé", "x" * 4097])
    def test_a_key_must_fit_a_header_and_is_not_told(self, key: str) -> None:
        fault = faults(url="http://h", api_key=key)
        assert list(fault) == ["api_key"]
        assert not key or key not in fault["api_key"]

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
        assert list(faults(url="http://h", **{key: value})) == [key]

    def test_a_key_is_nowhere_to_be_read(self) -> None:
        made = model(path=None, url="http://h", api_key="hunter2")
        assert "hunter2" not in f"{made!r} {made.model_dump_json()}"


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
        ("parallel", True),
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
    assert list(faults(**{"path": "a.gguf", key: value})) == [key]


class TestParameters:
    def test_any_json_can_be_put_and_any_names_taken_out(self) -> None:
        values = {"temperature": 0.5, "a": {"b": [None, True, "x"]}}
        assert model(set_params=values).set_params == values
        assert model(strip_params=["top_k", "seed"]).strip_params == ("top_k", "seed")

    def test_from_the_environment_they_come_as_text(self) -> None:
        assert model(set_params='{"temperature": 0.5}').set_params == {"temperature": 0.5}
        assert model(strip_params="top_k, seed").strip_params == ("top_k", "seed")

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
            model(**settings)

    def test_a_process_knows_nothing_of_them(self) -> None:
        assert model().starts_like(model(set_params={"a": 1}, strip_params=["b"]))
