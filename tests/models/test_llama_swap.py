"""llamaproxy.models.llama_swap: every key finds its place or is named."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.errors import ConfigError
from llamaproxy.models.draft import Draft, Plan
from llamaproxy.models.llama_swap import parse


def nothing(args: Sequence[str]) -> Iterable[str]:
    return ()


def plan(document: object, environ: Mapping[str, str] | None = None) -> Plan:
    return parse(yaml.safe_dump(document), nothing, environ or {})


def model(cmd: str = "llama-server -m x", macros: object = None, **settings: Any) -> Plan:
    return plan({"macros": macros or {}, "models": {"m": {"cmd": cmd, **settings}}, "groups": {}})


def draft(cmd: str = "llama-server -m x", macros: object = None, **settings: Any) -> Draft:
    """The one model, where everything of it finds its place."""
    found = model(cmd, macros, **settings)
    assert not found.unmapped
    (only,) = found.models
    return only


class TestCommands:
    def test_fields_and_arguments(self) -> None:
        found = draft(
            "llama-server --host 0.0.0.0 --port ${PORT} -m /x.gguf --ctx_size 4096 -ngl 99 --temp 0.7 --jinja"
        )
        assert (found.name, found.origin) == ("m", "models.m")
        assert found.fields == {"path": "/x.gguf", "ctx_size": "4096", "gpu_layers": "99"}
        assert found.args == ["--temp", "0.7", "--jinja"]

    def test_the_flash_attention_of_older_builds(self) -> None:
        assert draft("llama-server -m x -fa --jinja").args == ["-fa", "on", "--jinja"]
        assert draft("llama-server -m x --flash-attn off").args == ["--flash-attn", "off"]

    def test_an_environment_in_the_command_wins(self) -> None:
        assert draft("env A=1 llama-server -m x", env=["A=0", "B=2"]).fields["env"] == {"A": "1", "B": "2"}

    @pytest.mark.parametrize(
        ("cmd", "told"),
        [
            ("llama-server -m x stray", "models.m: the command's stray belongs to no option"),
            ("llama-server -m x --rpc 127.0.0.1:${PORT}", "models.m: the argument --rpc needs the engine's port"),
            ("llama-server -m x --new ${PORT}", "models.m: the argument --new needs the engine's port"),
            ("llama-server -m x --top-k", "models.m: the argument --top-k with 0 values instead of 1"),
            ("nice -n 3 llama-server -m x", "models.m.cmd: nice, by which llama-server is started"),
            ("docker run image", "models.m: left out: its command calls no llama-server, and has no ${PORT}"),
            ("${gone} -m x", "models.m: left out: nothing is known of the macro gone"),
            ("llama-server ${loop}", "models.m: left out: its macros do not end"),
        ],
    )
    def test_what_does_not_map(self, cmd: str, told: str) -> None:
        found = model(cmd, macros={"loop": "${loop}"})
        assert found.unmapped == [told]
        assert bool(found.models) == ("left out" not in told)
        assert not [word for one in found.models for word in one.args if "PORT" in word]

    @pytest.mark.parametrize("settings", [None, "words", [], {}, {"cmd": ["llama-server"]}, {"cmd": 5}])
    def test_without_a_command(self, settings: object) -> None:
        found = plan({"models": {"m": settings}})
        assert found.unmapped == ["models.m: left out: it has no command"]

    def test_what_is_refused_is_named_without_its_value(self) -> None:
        text = yaml.safe_dump({"models": {"m": {"cmd": "llama-server --tools x --brand-new secret"}}})
        found = parse(text, lambda args: [f"{args[0]} is refused"], {})
        assert found.unmapped == ["models.m: --tools is refused", "models.m: --brand-new is refused"]
        assert not found.models[0].args


class TestOtherCommands:
    """What calls no llama-server of this machine is kept as it is: a command of the operator's own."""

    def test_with_the_port_that_it_is_given(self) -> None:
        found = draft("vllm serve ${model} --port ${PORT}", {"model": "'a b'"}, env=["A=1"], ttl=60)
        assert found.fields == {
            "command": ["vllm", "serve", "a b", "--port", "${port}"],
            "env": {"A": "1"},
            "ttl": 60,
        }
        assert not found.args

    @pytest.mark.parametrize("proxy", ["http://127.0.0.1:9000", "http://localhost:9000/"])
    def test_with_a_port_of_its_own(self, proxy: str) -> None:
        assert draft("whisper-server", proxy=proxy).fields == {"command": ["whisper-server"], "port": "9000"}

    @pytest.mark.parametrize("proxy", ["http://10.0.0.1:9000", "https://localhost:9000", "http://localhost", 5])
    def test_that_listens_nobody_knows_where(self, proxy: object) -> None:
        found = model("whisper-server", proxy=proxy)
        assert found.unmapped == ["models.m: left out: its command calls no llama-server, and has no ${PORT}"]

    def test_its_health_and_its_name_for_the_model(self) -> None:
        found = draft("x ${PORT}", checkEndpoint="/ready", useModelName="org/name")
        assert (found.fields["health_path"], found.fields["upstream_name"]) == ("/ready", "org/name")
        assert model("x ${PORT}", checkEndpoint="none", cmdStop="y").unmapped == [
            "models.m.checkEndpoint",
            "models.m.cmdStop",
        ]

    def test_it_says_nothing_about_the_engine(self) -> None:
        assert "engine" not in model("/opt/vllm ${PORT}").sections


class TestPeers:
    def test_every_model_of_a_peer_is_one_elsewhere(self) -> None:
        peer = {"proxy": "https://llm.test/api", "apiKey": "${env.K}", "models": ["org/a", "b"]}
        found = plan({"peers": {"p": peer}}, {"K": "hunter2"})
        assert [(one.name, one.fields["url"], one.fields["upstream_name"]) for one in found.models] == [
            ("org/a", "https://llm.test/api", "org/a"),
            ("b", "https://llm.test/api", "b"),
        ]
        assert found.models[0].fields["api_key"].get_secret_value() == "hunter2"
        assert "hunter2" not in repr(found)
        assert not found.unmapped

    @pytest.mark.parametrize(
        ("peer", "told"),
        [
            ({"proxy": "http://h", "models": ["a"], "filters": {}}, "peers.p.filters"),
            ({"proxy": "http://h", "models": ["a"], "apiKey": "${env.GONE}"}, "peers.p.apiKey"),
            ({"proxy": "http://h"}, "peers.p: left out: it names no models"),
            (None, "peers.p: left out: it names no models"),
        ],
    )
    def test_what_has_no_place(self, peer: object, told: str) -> None:
        assert plan({"peers": {"p": peer}}).unmapped == [told]

    def test_they_cannot_be_pinned(self) -> None:
        groups = {"g": {"swap": False, "persistent": True, "members": ["a"]}}
        (found,) = plan({"peers": {"p": {"proxy": "http://h", "models": ["a"]}}, "groups": groups}).models
        assert "pinned" not in found.fields


class TestMacros:
    def test_of_all_and_of_one(self) -> None:
        macros = {"server": "llama-server --port ${PORT}", "ctx": 4096, "mmap": True, "args": "-c ${ctx} --x ${mmap}"}
        found = draft("${server} -m ${MODEL_ID}.gguf ${args}", macros)
        assert (found.fields, found.args) == ({"path": "m.gguf", "ctx_size": "4096"}, ["--x", "true"])
        document = {"macros": {"ctx": 1}, "models": {"m": {"cmd": "llama-server -c ${ctx}", "macros": {"ctx": 2}}}}
        assert plan(document).models[0].fields["ctx_size"] == "2"

    def test_of_the_environment(self) -> None:
        document = {
            "macros": {"dir": "${env.HOME}/models"},
            "models": {"m": {"cmd": "llama-server -m ${dir}/x", "env": ["A=${env.B}", "C=${env.GONE}"]}},
        }
        found = plan(document, {"HOME": "/home/x", "B": "2"})
        assert found.models[0].fields["path"] == "/home/x/models/x"
        assert found.models[0].fields["env"] == {"A": "2"}
        assert found.unmapped == ["models.m.env: entry 2"]

    def test_none_of_ours_is_used_unasked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "secret")
        assert plan({"models": {"m": {"cmd": "llama-server -m ${env.SECRET}"}}}).models == []


class TestSettings:
    @pytest.mark.parametrize(
        ("settings", "fields"),
        [
            ({"description": "words"}, {"description": "words"}),
            ({"name": "Name"}, {"description": "Name"}),
            ({"unlisted": True}, {"unlisted": True}),
            ({"ttl": 60}, {"ttl": 60}),
            ({"ttl": 0}, {}),
            ({"ttl": -1}, {}),
            ({"concurrencyLimit": 1}, {"concurrency": 1}),
            ({"concurrencyLimit": 0}, {}),
            ({"aliases": ["a", 4.1, {"id": "b", "name": "b", "unlisted": False}]}, {"aliases": ["a", "4.1", "b"]}),
            ({"env": ["A=1", "B=x=y"]}, {"env": {"A": "1", "B": "x=y"}}),
            ({"proxy": "http://127.0.0.1:${PORT}"}, {}),
            ({"proxy": "http://localhost:${PORT}"}, {}),
            ({"checkEndpoint": "/health"}, {}),
            ({"filters": {"stripParams": "top_k, model,seed,"}}, {"strip_params": ["top_k", "seed"]}),
            ({"filters": {"setParams": {"model": "x", "a": {"b": [1.5]}}}}, {"set_params": {"a": {"b": [1.5]}}}),
            ({"cmdStop": "", "filters": {}, "useModelName": "", "sendLoadingState": False, "metadata": None}, {}),
        ],
    )
    def test_that_have_a_place(self, settings: Any, fields: dict[str, object]) -> None:
        assert draft(**settings).fields == {"path": "x", **fields}

    @pytest.mark.parametrize(
        ("settings", "told"),
        [
            ({"name": "Name", "description": "words"}, "models.m.name"),
            ({"cmdStop": "docker stop x"}, "models.m.cmdStop"),
            ({"filters": {"stripParams": ["top_k"]}}, "models.m.filters.stripParams"),
            ({"filters": {"setParams": {"a": [{"b": None}]}}}, "models.m.filters.setParams"),
            ({"filters": {"setParamsByID": {"x": {"a": 1}}}}, "models.m.filters.setParamsByID"),
            ({"metadata": {"a": 1}}, "models.m.metadata"),
            ({"useModelName": "x"}, "models.m.useModelName"),
            ({"proxy": "http://10.0.0.1:8000"}, "models.m.proxy"),
            ({"proxy": ["http://127.0.0.1:${PORT}"]}, "models.m.proxy"),
            ({"checkEndpoint": "none"}, "models.m.checkEndpoint"),
            ({"unlisted": "yes"}, "models.m.unlisted"),
            ({"concurrencyLimit": -1}, "models.m.concurrencyLimit"),
            ({"aliases": "gpt"}, "models.m.aliases"),
            ({"aliases": [{"id": "b", "unlisted": True}]}, "models.m.aliases.b.unlisted"),
            ({"aliases": ["a", None]}, "models.m.aliases: entry 2"),
            ({"env": ["BAD"]}, "models.m.env: entry 1"),
            ({"env": ["OK=1", "P=${PORT}"]}, "models.m.env: entry 2"),
            ({"env": [{"a": 1}]}, "models.m.env: entry 1"),
            ({"timeouts": {"connect": 1}}, "models.m.timeouts"),
            ({"brand\nnew": 1}, "models.m.brand\\nnew"),
        ],
    )
    def test_that_have_none(self, settings: Any, told: str) -> None:
        assert model(**settings).unmapped == [told]

    def test_the_time_of_all(self) -> None:
        models = {
            "a": {"cmd": "llama-server -m x"},
            "b": {"cmd": "llama-server -m x", "ttl": -1},
            "c": {"cmd": "llama-server -m x", "ttl": 5},
            "d": {"cmd": "llama-server -m x", "ttl": 0},
        }
        found = plan({"globalTTL": 60, "models": models})
        assert [one.fields.get("ttl") for one in found.models] == [60, 60, 5, None]
        assert not found.unmapped


class TestTheRest:
    @pytest.mark.parametrize(
        ("document", "sections"),
        [
            ({"healthCheckTimeout": 500}, {"engine": {"start_timeout": 500}}),
            ({"healthCheckTimeout": 1}, {"engine": {"start_timeout": 15}}),
            ({"unloadTimeout": 30}, {"engine": {"stop_timeout": 30}}),
            ({"unloadTimeout": 0}, {}),
            ({"logLevel": "warn"}, {"telemetry": {"log_level": "warning"}}),
            ({"startPort": 10001}, {}),
        ],
    )
    def test_that_has_a_place(self, document: dict[str, object], sections: dict[str, object]) -> None:
        found = plan({"models": {}, **document})
        assert found.sections == {"limits": {"models_max": 1}, **sections}
        assert not found.unmapped

    @pytest.mark.parametrize(
        "key",
        "profiles ui store performance captureBuffer metricsMaxInMemory logToStdout sendLoadingState"
        " includeAliasesInList matrix groups logTimeFormat brandNew".split(),
    )
    def test_that_has_none(self, key: str) -> None:
        assert plan({"models": {}, key: {"a": 1}}).unmapped == [key]
        assert plan({"models": {}, key: None}).unmapped == []

    @pytest.mark.parametrize(
        ("key", "value"), [("logLevel", "loud"), ("healthCheckTimeout", "long"), ("apiKeys", "sk-1"), ("logLevel", [1])]
    )
    def test_that_has_the_wrong_type(self, key: str, value: object) -> None:
        assert plan({key: value}).unmapped == [key]

    def test_keys(self) -> None:
        found = plan({"apiKeys": ["sk-1", "${env.K}", "${env.GONE}", "", 5]}, {"K": "sk-2"})
        assert found.keys == ["sk-1", "sk-2"]
        assert found.unmapped == ["apiKeys: entry 3", "apiKeys: entry 4", "apiKeys: entry 5"]
        assert "sk-1" not in repr(found)

    def test_one_engine_is_kept(self) -> None:
        def programs(*names: str) -> Plan:
            return plan({"models": {str(n): {"cmd": f"{name} -m x"} for n, name in enumerate(names)}})

        assert programs("/opt/llama-server", "/opt/llama-server").sections["engine"] == {"binary": "/opt/llama-server"}
        assert "engine" not in programs("llama-server").sections
        for names in (("/opt/llama-server", "llama-server"), ("/opt/llama-server", "./llama-server")):
            found = programs(*names)
            assert "engine" not in found.sections
            assert len(found.unmapped) == sum("/" in name for name in names)
            assert "not the engine of all models" in found.unmapped[0]

    def test_one_model_at_a_time_unless_it_says_otherwise(self) -> None:
        models = {name: {"cmd": "llama-server -m x"} for name in "abc"}
        assert plan({"models": models}).sections == {"limits": {"models_max": 1}}
        groups = {
            "g": {"swap": False, "persistent": True, "members": ["a", "gone"]},
            "h": {"swap": False, "members": ["b"]},
        }
        found = plan({"models": models, "groups": groups})
        assert found.sections == {}
        assert [one.fields.get("pinned") for one in found.models] == [True, None, None]
        assert found.unmapped == ["groups"]
        assert plan({"models": models, "matrix": {"vars": {}}}).sections == {}

    def test_preload(self) -> None:
        models = {name: {"cmd": "llama-server -m x"} for name in "ab"}
        hooks = {"on_startup": {"preload": ["b", "gone"], "other": 1}, "on_end": {"x": 1}}
        found = plan({"models": models, "hooks": hooks})
        assert [one.fields.get("preload") for one in found.models] == [None, True]
        assert found.unmapped == ["hooks.on_end", "hooks.on_startup.other"]

    def test_names_that_are_no_text(self) -> None:
        found = parse("models: {1: {cmd: llama-server -m x}, 2.5: {cmd: llama-server -m x}}", nothing, {})
        assert [one.name for one in found.models] == ["1", "2.5"]


class TestYaml:
    @pytest.mark.parametrize(
        "text",
        ["", "words", "[1, 2]", "models: [", "a: &a [*a", "x: 2023-99-99", "\t- x", "!!python/object:os.system {}"],
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse(text, nothing, {})
        assert caught.value.message.isprintable()

    def test_without_pyyaml(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(ConfigError, match="pip install pyyaml"):
            parse("models: {}", nothing, {})

    def test_nested_without_end(self) -> None:
        for text in ("[" * 50_000, "a: " * 50_000, "- " * 50_000):
            with pytest.raises(ConfigError):
                parse(text, nothing, {})

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
            max_leaves=10,
        ),
        st.sampled_from("cmd name env ttl aliases proxy macros unlisted concurrencyLimit".split()),
        st.sampled_from("macros models peers apiKeys groups hooks globalTTL healthCheckTimeout logLevel".split()),
    )
    def test_any_value_anywhere(self, value: object, key: str, section: str) -> None:
        settings = {"cmd": "llama-server -m x", key: value}
        assert isinstance(plan({"models": {"m": settings}}), Plan)
        assert isinstance(plan({"models": {"m": settings}, section: value}), Plan)
        assert isinstance(plan({"hooks": {"on_startup": value}, "groups": {"g": value}}), Plan)
