"""llamaproxy.edits: which keys may be in the layer of edits, and that no other gets in."""

import errno
import tomllib
from pathlib import Path
from typing import Any

import pytest

from llamaproxy import edits
from llamaproxy.config import Config
from llamaproxy.effective import Origin, effective
from llamaproxy.errors import ConfigError, Conflict
from llamaproxy.modelconfig import ModelConfig

DANGEROUS = {
    "server": {
        "host",
        "port",
        "ollama_port",
        "lmstudio_port",
        "allowed_hosts",
        "allowed_origins",
        "base_path",
        "keys_file",
        "edits_file",
        "header_timeout",
    },
    "engine": {"binary", "args", "env", "allow_unsafe_args"},
    "catalog": {"models_dir", "downloads"},
    "kv": {"directory"},
    "telemetry": {"database", "captures", "log_dir"},
}
"""Programs, places of ours, where we are found, who may come in, and what would write prompts down or lock all out."""
DANGEROUS_OF_MODELS = {
    *("path", "command", "url", "api_key", "upstream_name", "health_path", "health_interval", "mmproj", "args", "env"),
    *("port", "set_params", "strip_params"),
}


class TestWhatMayBeEdited:
    def test_every_key_is_either_edited_or_kept_from_it_for_a_reason(self) -> None:
        for section in set(Config.model_fields) - {"models", "keys"}:
            keys = set(type(getattr(Config(), section)).model_fields)
            assert keys - set(edits.SECTIONS.get(section, ())) == DANGEROUS.get(section, set()), section
        assert set(ModelConfig.model_fields) - set(edits.MODEL) == DANGEROUS_OF_MODELS

    def test_it_is_shown_of_every_value(self) -> None:
        models = {"m": {"path": "/m", "env": {"A": "1"}}, "far": {"url": "http://far.test"}}
        keys = {"alice": {"sha256": "0" * 64}}
        values = effective(Config.model_validate({"models": models, "keys": keys}))
        shown = edits.editable(
            values, {("limits", "models_max"): Origin.ENVIRONMENT, ("models", "m", "ttl"): Origin.FLAG}
        )
        assert {name: set(table) for name, table in shown.items()} == {
            name: set(table) for name, table in values.items()
        }
        assert (shown["limits"]["models_max"], shown["limits"]["linger"], shown["engine"]["binary"]) == (
            False,
            True,
            False,
        )
        assert (shown["models"]["m"]["ttl"], shown["models"]["m"]["ctx_size"], shown["models"]["m"]["env"]) == (
            *(False, True, False),
        )
        assert (shown["models"]["far"]["ttl"], shown["models"]["far"]["concurrency"]) == (False, True)
        assert set(shown["keys"]["alice"].values()) == {False}

    @pytest.mark.parametrize(
        ("origin", "who"), [(Origin.ENVIRONMENT, "LLAMAPROXY_SERVER__PORT"), (Origin.FLAG, "--port")]
    )
    def test_who_fixes_a_value_is_named(self, origin: Origin, who: str) -> None:
        with pytest.raises(Conflict, match=who):
            edits.check_free(("server",), {"port": 1}, {("server", "port"): origin})
        edits.check_free(("server",), {"port": None}, {("server", "port"): origin})
        edits.check_free(("server",), {"port": 1}, {("server", "port"): Origin.FILE})


class TestFile:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        document: Any = {
            "limits": {"models_max": 3, "linger": 0.005},
            "models": {'org/a"b': {"path": "/a\nb", "aliases": ["x"], "pinned": True}, "n": {"ttl": 1.5}},
        }
        (path := tmp_path / "edits.toml").write_text(edits.text(document))
        assert edits.read(path) == document

    def test_no_file_is_no_edits(self, tmp_path: Path) -> None:
        assert edits.read(tmp_path / "none") == {}
        assert tomllib.loads(edits.text({})) == {}

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            ("[server]\nport = 1", "server.port: cannot be edited"),
            ("[engine]\nbinary = '/bin/sh'", "engine.binary: cannot be edited"),
            ("[models.m]\ncommand = ['sh']", "models.m.command: cannot be edited"),
            ("[models.m]\nargs = ['--rpc']", "models.m.args: cannot be edited"),
            ("[keys.a]\nadmin = true", "keys: nothing of it can be edited"),
            ("server = 1", "server: must be a table"),
            ("[models]\nm = 1", "models.m: must be a table"),
            ("models = 1", "models: must be a table"),
            ("['a\\nb']", r"a\\nb: nothing of it can be edited"),
            ("[", "not valid TOML"),
        ],
    )
    def test_nothing_else_is_believed(self, tmp_path: Path, content: str, fault: str) -> None:
        (path := tmp_path / "edits.toml").write_text(content)
        with pytest.raises(ConfigError, match=rf"edits\.toml: {fault}"):
            edits.read(path)

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EISDIR])
    def test_a_place_that_cannot_be_looked_at_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        def refuse(*arguments: Any, **options: Any) -> Any:
            raise OSError(number, "no")

        for name in ("stat", "open"):
            monkeypatch.setattr(Path, name, refuse)
        with pytest.raises(ConfigError, match=r"edits\.toml: cannot be read: no; server\.edits_file"):
            edits.read(tmp_path / "edits.toml")

    def test_a_place_that_is_none_is_left_to_who_judges_it(self) -> None:
        assert edits.read(Path("a\0b")) == {}

    def test_nothing_lies_below_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert edits.read(tmp_path / "file" / "edits.toml") == {}

    def test_it_lies_beside_the_database_unless_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/lp")
        assert edits.location(None) == Path("/var/lib/lp/edits.toml")
        assert edits.location("~/x.toml") == Path.home() / "x.toml"


def test_tables_are_changed_and_empty_ones_go() -> None:
    assert edits.changed({"a": 1, "b": 2}, {"a": None, "c": False}) == {"b": 2, "c": False}
    document = edits.with_model({"limits": {"queue_size": 1}}, "m", {"ttl": 1})
    assert document == {"limits": {"queue_size": 1}, "models": {"m": {"ttl": 1}}}
    assert edits.with_model(document, "m", {}) == {"limits": {"queue_size": 1}}
    assert edits.with_table(document, "limits", {}) == {"models": {"m": {"ttl": 1}}}
