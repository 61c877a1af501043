"""llamaproxy.models.presets: what comes out is a configuration that loads, and what did not fit is named."""

import hashlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy import configfile
from llamaproxy.backends import arguments
from llamaproxy.config import Config
from llamaproxy.errors import ConfigError
from llamaproxy.models import presets
from llamaproxy.models.presets import Imported, import_presets

INI = """\
version = 1
[*]
ctx-size = 8192
stop-timeout = 20
[ggml-org/gemma:q4_k_m]
model = /models/gemma 4b.gguf
mmproj = /models/mmproj.gguf
n-gpu-layers = all
parallel = 2
threads = 8
batch-size = 512
jinja = true
load-on-startup = true
"""
SWAP = """\
healthCheckTimeout: 60
models:
  qwen:
    cmd: /opt/llama-server --port ${PORT} -m /models/qwen.gguf -c 4096 --reasoning-format none
    aliases: [gpt-4o]
    env: ["CUDA_VISIBLE_DEVICES=0"]
    ttl: 300
"""


def loaded(imported: Imported) -> Config:
    return Config.model_validate(tomllib.loads(imported.toml))


def models(text: str) -> dict[str, Any]:
    return {name: model.model_dump(exclude_defaults=True) for name, model in loaded(ini(text)).models.items()}


def ini(text: str) -> Imported:
    return import_presets(text, "llama-server", arguments.faults)


def swap(document: dict[str, Any]) -> Imported:
    return import_presets(yaml.safe_dump(document, sort_keys=False), "llama-swap", arguments.faults)


class TestWhole:
    def test_of_llama_server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Through the front door, as a file."""
        imported = ini(INI)
        assert imported.unmapped == ()
        path = tmp_path / "llamaproxy.toml"
        path.write_text(imported.toml)
        config = configfile.load(path)
        (model,) = config.models.values()
        assert list(config.models) == ["ggml-org/gemma:Q4_K_M"]
        assert (model.path, model.mmproj) == ("/models/gemma 4b.gguf", "/models/mmproj.gguf")
        assert (model.ctx_size, model.gpu_layers, model.parallel, model.threads, model.batch_size) == (
            8192,
            -1,
            2,
            8,
            512,
        )
        assert (model.args, model.preload, model.aliases) == (("--jinja",), True, ("ggml-org/gemma:q4_k_m",))
        assert config.engine.stop_timeout == 20

    def test_of_llama_swap(self) -> None:
        imported = import_presets(SWAP, "llama-swap", arguments.faults)
        assert imported.unmapped == ()
        config = loaded(imported)
        (model,) = config.models.values()
        assert (model.path, model.ctx_size, model.args) == ("/models/qwen.gguf", 4096, ("--reasoning-format", "none"))
        assert (model.aliases, model.env, model.ttl) == (("gpt-4o",), {"CUDA_VISIBLE_DEVICES": "0"}, 300)
        assert (config.engine.binary, config.engine.start_timeout, config.limits.models_max) == (
            "/opt/llama-server",
            60,
            1,
        )

    def test_as_text(self) -> None:
        assert import_presets(SWAP, "llama-swap").toml == (
            '[engine]\nbinary = "/opt/llama-server"\nstart_timeout = 60.0\n\n[limits]\nmodels_max = 1\n\n'
            '[models.qwen]\npath = "/models/qwen.gguf"\nargs = ["--reasoning-format", "none"]\n'
            'env = {CUDA_VISIBLE_DEVICES = "0"}\nctx_size = 4096\nttl = 300.0\naliases = ["gpt-4o"]\n'
        )

    def test_a_byte_order_mark(self) -> None:
        assert loaded(ini("\ufeff" + INI)).models

    def test_nothing(self) -> None:
        assert ini("") == Imported("", ())

    def test_environment_for_macros(self) -> None:
        text = "models: {m: {cmd: 'llama-server -m ${env.DIR}/x'}}"
        assert loaded(import_presets(text, "llama-swap", environ={"DIR": "/d"})).models["m"].path == "/d/x"

    def test_keys(self) -> None:
        imported = swap({"apiKeys": ["sk-1", "sk-2", "sk-1"]})
        config = loaded(imported)
        assert [key.sha256 for key in config.keys.values()] == [
            hashlib.sha256(secret.encode()).hexdigest() for secret in ("sk-1", "sk-2")
        ]
        assert "sk-1" not in imported.toml


class TestOtherServers:
    def test_commands_and_peers_of_llama_swap(self) -> None:
        imported = swap(
            {
                "models": {"v": {"cmd": "vllm serve org/v --port ${PORT}", "useModelName": "org/v"}},
                "peers": {"p": {"proxy": "https://llm.test/v1", "apiKey": "hunter2", "models": ["org/a b"]}},
            }
        )
        command, url = loaded(imported).models.values()
        assert command.command == ("vllm", "serve", "org/v", "--port", "${port}")
        assert (url.url, url.upstream_name) == ("https://llm.test", "org/a b")
        assert url.api_key and url.api_key.get_secret_value() == "hunter2"
        assert imported.unmapped == ("peers.p: its name is org/a-b now",)

    def test_what_cannot_be_one_is_left_out_with_its_reason(self) -> None:
        imported = swap(
            {
                "models": {"m": {"cmd": "x ${PORT}", "proxy": "http://127.0.0.1:9"}, "n": {"cmd": "${PORT}"}},
                "peers": {"p": {"proxy": "llm.test", "models": ["a"]}},
            }
        )
        assert list(loaded(imported).models) == ["m"]
        told = [line for line in imported.unmapped if line.startswith(("models.n", "peers.p"))]
        assert "its first word is a program" in told[0]
        assert told[1].startswith("peers.p: url: Value error, not the address of a server")
        assert len(told) == 2


class TestWhatDoesNotFit:
    def test_fields(self) -> None:
        imported = ini("[a]\nmodel = /x\nthreads = many\nparallel = 999\nctx-size = 4096\n")
        assert loaded(imported).models["a"].model_dump(exclude_defaults=True) == {"path": "/x", "ctx_size": 4096}
        assert sorted(line.split(":")[1] for line in imported.unmapped) == [" parallel", " threads"]
        assert all(line.startswith("[a]: ") for line in imported.unmapped)

    def test_sections(self) -> None:
        imported = ini("[*]\nstop-timeout = soon\n[a]\nmodel = /x\n")
        assert loaded(imported).engine == Config().engine
        assert imported.unmapped[0].startswith("engine: stop_timeout: ")

    def test_without_a_file(self) -> None:
        imported = ini("[a]\nc = 1\n[b]\nmodel =\n[c]\nhf-repo = org/model:Q4\n")
        assert imported.toml == ""
        assert [line for line in imported.unmapped if "left out" in line] == [
            f"[{name}]: left out: it names no model file" for name in "abc"
        ]
        assert any("--hf-repo" in line and "download" in line for line in imported.unmapped)

    def test_with_a_file_that_cannot_be_one(self) -> None:
        imported = ini("[a]\nmodel = /x\0y\n[b]\nmodel = /x\n")
        assert list(loaded(imported).models) == ["b"]
        assert imported.unmapped[0].startswith("[a]: path: ")

    def test_refused_arguments(self) -> None:
        imported = ini("[a]\nmodel = /x\ntools = all\nrpc = h:1\ntemp = 1\n")
        assert loaded(imported).models["a"].args == ("--temperature", "1")
        assert len(imported.unmapped) == 2
        assert not list(arguments.faults(loaded(imported).models["a"].args))

    def test_without_a_judge_arguments_stay(self) -> None:
        assert loaded(import_presets("[a]\nm = x\ntools = all\n", "llama-server")).models["a"].args == (
            "--tools",
            "all",
        )

    @pytest.mark.parametrize(
        ("name", "allowed"),
        [
            ("bad name!", "bad-name"),
            ("模型", "model"),
            ("../../etc/passwd", "etc/passwd"),
            ("a//b", "a/b"),
            ("-x", "x"),
            ("x" * 200, "x" * 100),
            ("***", "model"),
        ],
    )
    def test_names(self, name: str, allowed: str) -> None:
        imported = swap({"models": {name: {"cmd": "llama-server -m x"}}})
        assert list(loaded(imported).models) == [allowed]
        (told,) = imported.unmapped
        assert told.endswith(f"its name is {allowed} now")

    def test_names_that_become_the_same(self) -> None:
        cmd = {"cmd": "llama-server -m x"}
        imported = swap({"models": {"a b": cmd, "a-b": cmd, "a?b": cmd}})
        assert list(loaded(imported).models) == ["a-b", "a-b-2", "a-b-3"]
        assert len(imported.unmapped) == 3

    def test_aliases(self) -> None:
        text = "[a]\nm = /x\nalias = a, b, one, two, bad name, one\n[b]\nm = /x\nalias = one, three\n"
        imported = ini(text)
        assert {name: model.get("aliases", ()) for name, model in models(text).items()} == {
            "a": ("one", "two"),
            "b": ("three",),
        }
        assert imported.unmapped == (
            "[a]: the alias b is taken",
            "[a]: the alias bad name is no name here",
            "[b]: the alias one is taken",
        )

    def test_too_much(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ConfigError, match="characters are not read"):
            ini(" " * (presets.LONGEST_TEXT + 1))
        monkeypatch.setattr(presets, "MOST_MODELS", 2)
        assert len(models("[a]\nm=x\n[b]\nm=x\n")) == 2
        with pytest.raises(ConfigError, match="more than 2 models"):
            ini("[a]\n[b]\n[c]\n")


class TestToml:
    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Descriptions, paths, arguments: as they were, or named."""
        cmd = {"cmd": "llama-server -m x", "description": text, "env": [f"A={text}"]}
        imported = swap({"models": {"m": cmd}})
        model = loaded(imported).models["m"]
        assert model.description in (text, "")
        assert model.env in ({"A": text}, {})
        assert bool(model.env) or any(line.startswith("models.m") for line in imported.unmapped)

    @given(st.dictionaries(st.text(min_size=1), st.lists(st.text(), max_size=3), max_size=5))
    def test_any_names(self, names: dict[str, list[str]]) -> None:
        models = {name: {"cmd": "llama-server -m x", "aliases": aliases} for name, aliases in names.items()}
        imported = swap({"models": models})
        assert len(loaded(imported).models) == len(names)
        assert all(line.isprintable() for line in imported.unmapped)

    @given(st.text(alphabet="[]*=;# \nabcm:/01-_"))
    def test_any_preset_file(self, text: str) -> None:
        try:
            imported = ini(text)
        except ConfigError:
            return
        loaded(imported)

    @pytest.mark.parametrize(
        "text", ['"', "\\", "\x7f", "\x00", "\x1b", "\u2028", "é", "😀", "\\u0041", "'", "a\tb", "a\r\nb"]
    )
    def test_hard_ones(self, text: str) -> None:
        imported = swap({"models": {"m": {"cmd": "llama-server -m x", "description": text}}})
        assert loaded(imported).models["m"].description == text
        assert imported.unmapped == ()

    def test_what_unicode_has_not(self) -> None:
        """YAML's escapes can say it, in a file it cannot stand."""
        text = r'models: {"m": {"cmd": "llama-server -m x --x \ud800", "env": ["A=\ud83d\ude00", "B=\udcff"]}}'
        imported = import_presets(text, "llama-swap")
        imported.toml.encode()
        model = loaded(imported).models["m"]
        assert model.env == {"A": "😀", "B": "\ufffd"}
        assert model.args == ("--x", "\ufffd")
