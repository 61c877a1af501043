"""llamaproxy.variables: what the environment says, and in which words a wrong name is told."""

import os
from pathlib import Path

import pytest

from llamaproxy import configfile
from llamaproxy.config import Config
from tests import nowhere
from tests.nowhere import told

GOOD_HASH = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere.go(tmp_path, monkeypatch)


class TestVariables:
    def test_every_type_of_value(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in {
            "SERVER__MAX_BODY": "8MiB",
            "SERVER__DRAIN_TIMEOUT": "1m",
            "SERVER__ALLOWED_HOSTS": "gw.example.com, gw",
            "ENGINE__ARGS": '["--temp", "0.5"]',
            "ENGINE__ALLOW_UNSAFE_ARGS": "true",
            "CATALOG__BUNDLED": "false",
            "BREAKER__START_FAILURES": "4",
            "MODELS__QWEN__PATH": "/models/qwen.gguf",
            "MODELS__QWEN__ALIASES": "gpt-4o,gpt-4o-mini",
            "KEYS__ALICE__SHA256": GOOD_HASH,
        }.items():
            monkeypatch.setenv(f"LLAMAPROXY_{name}", value)
        config = configfile.load(None)
        assert config.server.max_body == 8 * 1024**2
        assert config.server.drain_timeout == 60
        assert config.server.allowed_hosts == ("gw.example.com", "gw")
        assert config.engine.args == ("--temp", "0.5")
        assert config.engine.allow_unsafe_args is True
        assert config.catalog.bundled is False
        assert config.breaker.start_failures == 4
        assert config.models["qwen"].aliases == ("gpt-4o", "gpt-4o-mini")
        assert config.keys["alice"].sha256 == GOOD_HASH

    def test_an_engines_variables_keep_their_case(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_ENGINE__ENV__GGML_Cuda__Mode", "1")
        monkeypatch.setenv("LLAMAPROXY_MODELS__QWEN__ENV__Http_Proxy", "2")
        monkeypatch.setenv("LLAMAPROXY_MODELS__QWEN__PATH", "q.gguf")
        config = configfile.load(None)
        assert config.engine.env == {"GGML_Cuda__Mode": "1"}
        assert config.models["qwen"].env == {"Http_Proxy": "2"}

    def test_a_model_may_be_called_env(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_MODELS__ENV__PATH", "e.gguf")
        monkeypatch.setenv("LLAMAPROXY_MODELS__ENV__ENV__A", "1")
        model = configfile.load(None).models["env"]
        assert (model.path, model.env) == ("e.gguf", {"A": "1"})

    @pytest.mark.parametrize(
        "name", ["LLAMAPROXY_CONFIG", "LLAMAPROXY_URL", "LLAMAPROXY_API_KEY", "OTHER_SERVER__PROT"]
    )
    def test_variables_that_are_no_settings(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(name, "x")
        assert configfile.load(None).model_dump() == Config().model_dump()

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("SERVICE_HOST", "10.0.0.1"),
            ("SERVICE_PORT", "80"),
            ("SERVICE_PORT_HTTP", "80"),
            ("PORT", "tcp://10.0.0.1:80"),
            ("PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("PORT_80_TCP_PROTO", "tcp"),
            ("PORT_80_TCP_PORT", "80"),
            ("PORT_80_TCP_ADDR", "10.0.0.1"),
        ],
    )
    def test_kubernetes_may_name_its_service_after_us(
        self, name: str, value: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"LLAMAPROXY_{name}", value)
        assert configfile.load(None).model_dump() == Config().model_dump()

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("SERVR__PORT", ", did you mean LLAMAPROXY_SERVER__PORT?"),
            ("SERVER__PROT", ", did you mean LLAMAPROXY_SERVER__PORT?"),
            ("SERVER_PORT", ", did you mean LLAMAPROXY_SERVER__PORT?"),
            ("LIMITS_MODELS_MAX", ", did you mean LLAMAPROXY_LIMITS__MODELS_MAX?"),
            ("PORT", ", did you mean LLAMAPROXY_SERVER__PORT?"),
            ("MODELS__QWEN__PAHT", ", did you mean LLAMAPROXY_MODELS__QWEN__PATH?"),
            ("MODELS__QWEN__ENVV__A", ", did you mean LLAMAPROXY_MODELS__QWEN__ENV__A?"),
            ("KEYS__ALICE__SHA265", ", did you mean LLAMAPROXY_KEYS__ALICE__SHA256?"),
            ("SERVER__PORT__X", ""),
            ("BREAKER__XYZZY", "; valid here: start_failures, request_failures, open, open_max"),
            ("XYZZY", "; valid here: server, engine, limits, breaker, catalog, kv, models, keys, telemetry"),
        ],
    )
    def test_unknown_ones_are_named_with_the_nearest(
        self, name: str, hint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"LLAMAPROXY_{name}", "1")
        assert told(None) == [f"LLAMAPROXY_{name}: unknown setting{hint}"]

    @pytest.mark.parametrize(
        "name", ["SERVER", "MODELS", "KEYS", "MODELS__QWEN", "KEYS__ALICE", "ENGINE__ENV", "MODELS__QWEN__ENV"]
    )
    def test_a_table_is_no_value(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(f"LLAMAPROXY_{name}", "x")
        section = name.rpartition("__")[2].lower()
        assert told(None) == [f"LLAMAPROXY_{name}: {section} is a section; set LLAMAPROXY_{name}__KEY"]

    def test_a_table_that_is_given_as_value_and_as_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_MODELS__QWEN", "x")
        monkeypatch.setenv("LLAMAPROXY_MODELS__QWEN__PATH", "y")
        assert told(None) == ["LLAMAPROXY_MODELS__QWEN: qwen is a section; set LLAMAPROXY_MODELS__QWEN__KEY"]

    def test_a_name_with_a_line_break_takes_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_A\n\x1b[31mB", "x")
        assert told(None)[0].startswith(r"LLAMAPROXY_A\n\x1b[31mB: unknown setting")

    def test_a_value_that_is_not_utf8_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_MODELS__QWEN__PATH", os.fsdecode(b"/\xff"))
        assert told(None)[0].startswith("models.qwen.path: ")
