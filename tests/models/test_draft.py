"""llamaproxy.models.draft: what llama-server's options mean for a model of ours."""

from collections.abc import Iterable, Sequence

import pytest

from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models.draft import Draft, shown
from llamaproxy.models.options import argument


def nothing(args: Sequence[str]) -> Iterable[str]:
    return ()


def added(*lines: str) -> Draft:
    draft = Draft("m", "models.m")
    for line in lines:
        words = line.split()
        assert list(draft.add(argument(words[0]), words, nothing)) == []
    return draft


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("-m /x.gguf", {"path": "/x.gguf"}),
        ("--mmproj /p.gguf", {"mmproj": "/p.gguf"}),
        ("-c 4096", {"ctx_size": "4096"}),
        ("-b 512", {"batch_size": "512"}),
        ("-t 8", {"threads": "8"}),
        ("-t -1", {}),
        ("-t 0", {}),
        ("-ngl 99", {"gpu_layers": "99"}),
        ("-ngl all", {"gpu_layers": -1}),
        ("-ngl -2", {"gpu_layers": -1}),
        ("-ngl auto", {}),
        ("-ngl -1", {}),
        ("-np 4", {"parallel": "4"}),
        ("-np -1", {}),
        ("-a x,y,,z", {"aliases": ["x", "y", "z"]}),
        ("--host 0.0.0.0", {}),
        ("--port 9999", {}),
        ("--metrics", {}),
        ("--no-slots", {}),
        ("--reuse-port", {}),
    ],
)
def test_fields(line: str, fields: dict[str, object]) -> None:
    draft = added(line)
    assert (draft.fields, draft.args) == (fields, [])
    assert set(fields) <= set(ModelConfig.model_fields)


def test_everything_else_is_an_argument() -> None:
    draft = added("--jinja", "--temp 0.7", "--lora a.gguf", "--lora b.gguf", "--control-vector-layer-range 1 2")
    assert draft.args == "--jinja --temp 0.7 --lora a.gguf --lora b.gguf --control-vector-layer-range 1 2".split()
    assert not draft.fields


def test_the_last_one_counts() -> None:
    assert added("-c 1", "--ctx-size 2").fields == {"ctx_size": "2"}
    assert added("-ngl 5", "-ngl auto").fields == {}
    assert added("-a x", "-a y").fields == {"aliases": ["x", "y"]}


def test_too_few_values() -> None:
    draft = Draft("m", "models.m")
    (told,) = draft.add(argument("-c"), ["-c"], nothing)
    assert told == "models.m: the argument -c with 0 values instead of 1"
    assert not draft.fields


def test_what_is_refused() -> None:
    draft = Draft("m", "models.m")
    told = draft.add(argument("--hf-token"), ["--hf-token", "secret"], lambda args: [f"{args[0]} is refused"])
    assert list(told) == ["models.m: --hf-token is refused"]
    assert not draft.args


def test_one_that_is_not_known() -> None:
    draft = Draft("m", "models.m")
    assert list(draft.add(None, ["--brand-new", "1"], nothing)) == []
    assert draft.args == ["--brand-new", "1"]


def test_shown() -> None:
    assert shown("Qwen 模型") == "Qwen 模型"
    assert shown("a\n\x1b[31m") == "a\\n\\x1b[31m"
    assert len(shown("x" * 10_000)) == 200
