"""llamaproxy.models.swap_command: macros end, and only a plain call of llama-server is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.models.swap_command import PORT, Call, Unfit, call, filler, options, split


class TestMacros:
    @pytest.mark.parametrize(
        ("text", "filled"),
        [
            ("", ""),
            ("no macros", "no macros"),
            ("${a} and ${a}", "1 and 1"),
            ("${b}", "-c 1"),
            ("${env.HOME}/models", "/home/x/models"),
            ("${PORT}", PORT),
            ("$a ${} ${a", "$a ${} ${a"),
        ],
    )
    def test_filled_in(self, text: str, filled: str) -> None:
        assert filler({"a": "1", "b": "-c ${a}", "env.HOME": "/home/x"})(text) == filled

    def test_the_port_stays_whatever_a_macro_says(self) -> None:
        assert filler({"PORT": "1", "p": "--port ${PORT}"})("${p}") == f"--port {PORT}"
        assert filler({"PORT": "1", "a": "x"})("${PORT} ${a}") == f"{PORT} x"

    def test_what_is_not_known(self) -> None:
        with pytest.raises(Unfit, match="nothing is known of the macro b"):
            filler({"a": "${b}"})("${a}")

    @pytest.mark.parametrize(
        "macros",
        [
            {"a": "${a}"},
            {"a": "${b}", "b": "${a}"},
            {"a": "x${a}"},
            {"a": "${a}${a}"},
            {str(n): f"${{{n + 1}}}" * 10 for n in range(12)} | {"12": "x", "a": "${0}"},
        ],
    )
    def test_what_does_not_end(self, macros: dict[str, str]) -> None:
        with pytest.raises(Unfit, match="do not end"):
            filler(macros)("${a}")


def called(command: str) -> Call:
    found = call(split(command))
    assert found
    return found


class TestCall:
    @pytest.mark.parametrize(
        ("command", "program", "words"),
        [
            ("llama-server -m x.gguf", "llama-server", ["-m", "x.gguf"]),
            ("/opt/llama/llama-server -m 'a b.gguf'", "/opt/llama/llama-server", ["-m", "a b.gguf"]),
            ("./llama-server", "./llama-server", []),
            ("/x/llama-server-ec9e0301 -c 1", "/x/llama-server-ec9e0301", ["-c", "1"]),
            ("# words\nllama-server\n  # ${more}\n  -c 1\n", "llama-server", ["-c", "1"]),
            ("llama-server \\\n  -c 1 \\\n  -np 2", "llama-server", ["-c", "1", "-np", "2"]),
            ("exec llama-server -c 1", "llama-server", ["-c", "1"]),
        ],
    )
    def test_plain_ones(self, command: str, program: str, words: list[str]) -> None:
        found = called(command)
        assert (found.program, list(found.words), found.environment, found.wrapper) == (program, words, [], None)

    def test_with_an_environment(self) -> None:
        assert called("env A=1 B='x y' llama-server -c 1").environment == ["A=1", "B=x y"]
        assert called("A=1 llama-server").environment == ["A=1"]

    @pytest.mark.parametrize("command", ["nice -n 5 llama-server", "A=1 /usr/bin/numactl --all llama-server"])
    def test_what_only_changes_how_it_runs(self, command: str) -> None:
        wrapper = called(command).wrapper
        assert wrapper in ("nice", "/usr/bin/numactl")

    @pytest.mark.parametrize(
        "command",
        [
            "",
            "vllm serve x",
            "docker run ghcr.io/ggml-org/llama.cpp:server -m x",
            "my-llama-server -m x",
            "cat --log=/x/llama-server",
            "docker run image llama-server -m x",
            "bash -c llama-server",
            "ssh host llama-server",
            "bash -c 'llama-server -m x'",
        ],
    )
    def test_other_ones(self, command: str) -> None:
        assert call(split(command)) is None

    def test_one_that_does_not_end(self) -> None:
        with pytest.raises(Unfit, match="cannot be split"):
            split("llama-server 'unfinished")

    @given(st.text(alphabet="ab -='\"\\\n#/", max_size=40))
    def test_any_text(self, text: str) -> None:
        try:
            found = call(split(f"{text} llama-server {text}"))
        except Unfit:
            return
        assert found is None or found.program.endswith("llama-server")


class TestOptions:
    def test_each_with_its_values(self) -> None:
        words = "-m x.gguf --jinja -c 1 --keep -1 --control-vector-layer-range 1 2 --no-mmap -fa".split()
        assert [group for _, group in options(words)] == [
            ["-m", "x.gguf"],
            ["--jinja"],
            ["-c", "1"],
            ["--keep", "-1"],
            ["--control-vector-layer-range", "1", "2"],
            ["--no-mmap"],
            ["-fa"],
        ]
        assert all(option for option, _ in options(words))

    def test_an_option_without_its_value(self) -> None:
        assert [group for _, group in options(["-fa", "--jinja", "-c"])] == [["-fa"], ["--jinja"], ["-c"]]

    def test_what_is_not_known_takes_what_follows(self) -> None:
        found = list(options(["--brand-new", "1", "-2", "x", "--jinja", "stray", "words", "--other"]))
        assert [(option.name if option else None, group) for option, group in found] == [
            (None, ["--brand-new", "1", "-2", "x"]),
            ("--jinja", ["--jinja"]),
            (None, ["stray"]),
            (None, ["words"]),
            (None, ["--other"]),
        ]

    def test_nothing(self) -> None:
        assert list(options([])) == []

    @given(st.lists(st.sampled_from(["-c", "--jinja", "-1", "x", "--new", "--control-vector-layer-range", ""])))
    def test_no_word_is_lost(self, words: list[str]) -> None:
        assert [word for _, group in options(words) for word in group] == words
