"""llamaproxy.effective: the configuration as it can be shown."""

from pathlib import PurePosixPath
from typing import Any

import pytest

from llamaproxy.config import Config
from llamaproxy.effective import Origin, Origins, SecretFile, effective, shown_origins, trace

GOOD_HASH = "0123456789abcdef" * 4
LAYERS: dict[Origin, dict[str, Any]] = {
    Origin.FILE: {"server": {"port": 1, "host": "h"}, "models": {"m": {"env": {"A": "1", "B": "2"}}}},
    Origin.ENVIRONMENT: {"server": {"port": 2}, "models": {"m": {"env": {"B": "3"}, "set_params": "{...}"}}},
    Origin.FLAG: {"server": {"port": 3}},
}


class TestSecrets:
    def effective(self, **sections: Any) -> dict[str, Any]:
        return effective(Config.model_validate(sections))

    @pytest.mark.parametrize(
        "name",
        ["HF_TOKEN", "OPENAI_API_KEY", "aws_secret", "DB_PASSWORD", "SSH_PASSPHRASE", "BASIC_AUTH", "CREDENTIALS"],
    )
    def test_variables_that_are_named_like_one(self, name: str) -> None:
        env = {name: "hunter2", "OMP_THREADS": "4"}
        values = self.effective(engine={"env": env}, models={"m": {"path": "m", "env": env}})
        assert values["engine"]["env"] == {name: "***", "OMP_THREADS": "4"}
        assert values["models"]["m"]["env"] == {name: "***", "OMP_THREADS": "4"}

    @pytest.mark.parametrize(
        ("args", "shown"),
        [
            (["--api-key", "hunter2", "--jinja"], ["--api-key", "***", "--jinja"]),
            (["--api-key=hunter2\n", "--jinja"], ["--api-key=***", "--jinja"]),
            (["-hft", "hunter2"], ["-hft", "***"]),
            (["--hf-token", "hunter2"], ["--hf-token", "***"]),
            (["--jinja", "--api-key"], ["--jinja", "--api-key"]),
            (
                ["--override-kv", "a=int:1", "--api-key-file", "/f"],
                ["--override-kv", "a=int:1", "--api-key-file", "/f"],
            ),
            (["--image-min-tokens", "64", "--keep", "5"], ["--image-min-tokens", "64", "--keep", "5"]),
        ],
    )
    def test_arguments_that_are_named_like_one(self, args: list[str], shown: list[str]) -> None:
        values = self.effective(engine={"args": args}, models={"m": {"path": "m", "args": args}})
        assert values["engine"]["args"] == shown
        assert values["models"]["m"]["args"] == shown

    def test_hashes_of_keys(self) -> None:
        values = self.effective(keys={"alice": {"sha256": GOOD_HASH}})
        assert values["keys"]["alice"]["sha256"] == "012345..."
        assert GOOD_HASH not in str(values)

    def test_keys_of_servers_elsewhere(self) -> None:
        models = {"m": {"url": "http://h", "api_key": "hunter2"}, "n": {"url": "http://h"}}
        values = self.effective(models=models)["models"]
        assert [model["api_key"] for model in values.values()] == ["***", None]

    def test_arguments_of_commands(self) -> None:
        values = self.effective(models={"m": {"command": ["x", "--port=${port}", "--api-key", "hunter2"]}})
        assert values["models"]["m"]["command"] == ["x", "--port=${port}", "--api-key", "***"]

    @pytest.mark.parametrize("before", ["", "--proxy=", "connect('"])
    def test_passwords_in_addresses(self, before: str) -> None:
        command = ["x", f"{before}http://admin:hunter2@10.0.0.1:${{port}}/a@b"]
        values = self.effective(models={"m": {"command": command}})
        assert values["models"]["m"]["command"] == ["x", f"{before}http://***@10.0.0.1:${{port}}/a@b"]


class TestOrigins:
    def test_the_later_word_counts(self) -> None:
        assert dict(trace(LAYERS)) == {
            ("server", "port"): Origin.FLAG,
            ("server", "host"): Origin.FILE,
            ("models", "m", "env", "A"): Origin.FILE,
            ("models", "m", "env", "B"): Origin.ENVIRONMENT,
            ("models", "m", "set_params"): Origin.ENVIRONMENT,
        }

    def test_they_have_the_shape_of_the_values(self) -> None:
        values = {"server": {"port": 3, "max_body": 5}, "models": {"m": {"env": {"A": "1"}, "args": [1]}}, "keys": {}}
        assert shown_origins(values, trace(LAYERS)) == {
            "server": {"port": "flag", "max_body": "default"},
            "models": {"m": {"env": {"A": "file"}, "args": "default"}},
            "keys": {},
        }

    def test_a_table_that_came_as_one_text_is_of_one_origin(self) -> None:
        values = {"models": {"m": {"set_params": {"a": {"b": 1}}}}}
        assert shown_origins(values, trace(LAYERS)) == {"models": {"m": {"set_params": {"a": {"b": "environment"}}}}}

    def test_a_secret_that_stands_in_a_file_names_it(self) -> None:
        origins: Origins = {("keys", "root", "sha256"): SecretFile(PurePosixPath("/run/secrets/root"))}
        shown = shown_origins({"keys": {"root": {"sha256": "0...", "admin": True}}}, origins)
        assert shown["keys"]["root"] == {"sha256": "file /run/secrets/root", "admin": "default"}


def test_sections_stand_in_the_order_of_the_file() -> None:
    assert list(effective(Config())) == list(Config.model_fields)
