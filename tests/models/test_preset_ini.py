"""llamaproxy.models.preset_ini: llama-server's own grammar. tests/engine/test_model_files.py asks llama-server."""

import contextlib
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.errors import ConfigError
from llamaproxy.models.draft import Draft, Plan
from llamaproxy.models.preset_ini import parse


def nothing(args: Sequence[str]) -> Iterable[str]:
    return ()


def model(text: str, name: str = "a") -> Draft:
    (found,) = [draft for draft in parse(text, nothing).models if draft.name == name]
    return found


class TestGrammar:
    @pytest.mark.parametrize(
        "line",
        [
            "model = /x.gguf",
            "model=/x.gguf",
            "model\t=\t/x.gguf\t ",
            "model = /x.gguf ; words",
            "model = /x.gguf;words",
            "model = /x.gguf#words = 1",
            "m = /x.gguf",
            "LLAMA_ARG_MODEL = /x.gguf",
            "model = /gone.gguf\nmodel = /x.gguf",
            "; comment\n  # comment\n\n   \nmodel = /x.gguf",
        ],
    )
    def test_lines(self, line: str) -> None:
        assert model(f"[a]\n{line}\n").fields == {"path": "/x.gguf"}

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_ends_of_lines(self, end: str) -> None:
        assert model(end.join(["version = 1", "[a] ; words", "model = /x", "c = 5"])).fields == {
            "path": "/x",
            "ctx_size": "5",
        }

    def test_other_separators_of_lines_are_none(self) -> None:
        assert model("[a]\nmodel = /x\u2028y\x0bz\n").fields == {"path": "/x\u2028y\x0bz"}

    def test_values_keep_what_is_within(self) -> None:
        assert model('[a]\nmodel = "/a b  c" = d\n').fields == {"path": '"/a b  c" = d'}

    @pytest.mark.parametrize(
        "text",
        [
            "[a]\n model = /x",
            "[a] b",
            "[]",
            "[ ]",
            " [a]",
            "[a",
            "[a]\nmodel",
            "= 1",
            "1x = 2",
            "--ctx-size = 1",
            "ключ = 1",
            "[a]\nmodel : /x",
        ],
    )
    def test_what_is_no_preset_file(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"^line [12]: neither"):
            parse(text, nothing)

    def test_the_line_that_is_told_is_short_and_printable(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse("\n\n\x1b[31m" + "x" * 10_000, nothing)
        assert caught.value.message.startswith("line 3:")
        assert caught.value.message.isprintable()
        assert len(caught.value.message) < 300

    @pytest.mark.parametrize(
        "text", ["[" + " " * 200_000, "a" * 200_000, "a = " + " " * 200_000 + "x", "a" + " " * 200_000]
    )
    def test_no_line_takes_long(self, text: str) -> None:
        with contextlib.suppress(ConfigError):
            parse(text, nothing)

    @given(st.text(alphabet="[]*=;# \tab\r\nc"))
    def test_any_text(self, text: str) -> None:
        try:
            plan = parse(text, nothing)
        except ConfigError:
            return
        assert isinstance(plan, Plan)


class TestSections:
    def test_defaults_for_all(self) -> None:
        text = "[*]\nc = 1\nngl = 2\nfa = on\n[a]\nctx-size = 5\nflash-attn = off\n[b]\nmodel = /b\n"
        assert model(text).fields == {"ctx_size": "5", "gpu_layers": "2"}
        assert model(text).args == ["--flash-attn", "off"]
        assert model(text, "b").fields == {"ctx_size": "1", "gpu_layers": "2", "path": "/b"}
        assert model(text, "b").args == ["--flash-attn", "on"]

    def test_defaults_may_come_last(self) -> None:
        assert model("[a]\nm = /a\n[*]\nc = 1\n").fields == {"path": "/a", "ctx_size": "1"}

    def test_a_second_section_replaces_the_first(self) -> None:
        assert model("[a]\nmodel = /x\nc = 5\n[b]\n[a]\nmodel = /y\n").fields == {"path": "/y"}

    def test_of_two_names_for_one_option_the_alphabetically_last_counts(self) -> None:
        assert model("[a]\nctx-size = 2\nc = 1\n").fields == {"ctx_size": "2"}
        assert model("[a]\nc = 1\nctx-size = 2\n").fields == {"ctx_size": "2"}

    def test_keys_before_the_first_section_are_a_model(self) -> None:
        assert model("model = /x\n[a]\n", "default").fields == {"path": "/x"}
        assert [draft.name for draft in parse("version = 1\n[a]\nmodel = /x\n", nothing).models] == ["a"]

    @pytest.mark.parametrize(
        ("written", "listed"),
        [
            ("org/m:q8_0", "org/m:Q8_0"),
            ("m:UD-Q4_K_XL", "m:Q4_K_XL"),
            ("m:foo.bar", "m:BAR"),
            ("m:q8-0", "m:0"),
            ("m:a b", "m:A B"),
            ("a:b:c", "a:b:C"),
        ],
    )
    def test_tags(self, written: str, listed: str) -> None:
        assert model(f"[{written}]\nmodel = /x\n", listed).fields["aliases"] == [written]

    @pytest.mark.parametrize("name", ["m", "m:Q8_0", "org/m"])
    def test_names_that_stay(self, name: str) -> None:
        assert model(f"[{name}]\nmodel = /x\n", name).fields == {"path": "/x"}


class TestKeys:
    @pytest.mark.parametrize(
        ("line", "args"),
        [
            ("jinja = true", ["--jinja"]),
            ("jinja = maybe", ["--jinja"]),
            ("jinja = off", ["--no-jinja"]),
            ("no-jinja = 1", ["--no-jinja"]),
            ("no-jinja = disabled", ["--jinja"]),
            ("no-jinja = maybe", ["--jinja"]),
            ("nkvo = enabled", ["--no-kv-offload"]),
            ("LLAMA_ARG_NO_JINJA = on", ["--no-jinja"]),
            ("swa-full = true", ["--swa-full"]),
            ("swa-full = maybe", ["--swa-full"]),
            ("swa-full = false", []),
            ("embedding = 0", []),
            ("temp = 0.5", ["--temperature", "0.5"]),
            ("LLAMA_ARG_CACHE_RAM = 0", ["--cache-ram", "0"]),
            ("host = 0.0.0.0", []),
            ("port = 9", []),
        ],
    )
    def test_arguments(self, line: str, args: list[str]) -> None:
        assert model(f"[a]\n{line}\n").args == args

    def test_what_only_presets_have(self) -> None:
        plan = parse(
            "[*]\nstop-timeout = 7\n[a]\nload-on-startup = true\nstop-timeout = 3\ndedup-cache-models = 1\n", nothing
        )
        assert plan.models[0].fields == {"preload": True}
        assert plan.sections == {"engine": {"stop_timeout": "7"}}
        assert plan.unmapped == ["[a]: stop-timeout", "[a]: dedup-cache-models"]
        assert model("[*]\nload-on-startup = 1\n[a]\n").fields == {"preload": True}
        assert model("[a]\nload-on-startup = false\n").fields == {}

    def test_what_does_not_map_is_named_once(self) -> None:
        plan = parse("[*]\nnonsense = 1\n[a]\nctx_size = 1\ncontrol-vector-layer-range = 1 2\n[b]\n", nothing)
        assert plan.unmapped == [
            "[*]: nonsense is no option of llama-server",
            "[a]: ctx_size is no option of llama-server",
            "[a]: the argument --control-vector-layer-range with 1 values instead of 2",
        ]

    def test_what_is_refused_is_named_without_its_value(self) -> None:
        plan = parse("[a]\nhf-token = secret\nc = 1\n", lambda args: [f"{args[0]} is refused"])
        assert plan.unmapped == ["[a]: --hf-token is refused"]
        assert (plan.models[0].fields, plan.models[0].args) == ({"ctx_size": "1"}, [])
