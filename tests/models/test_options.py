"""llamaproxy.models.options: one option under all its names. tests/engine/test_model_files.py asks llama-server."""

import pytest

from llamaproxy.backends import arguments
from llamaproxy.models.options import ALL, argument, key


def test_no_name_stands_for_two() -> None:
    spellings = [spelling for option in ALL for spelling in (*option.spellings, *option.negatives)]
    assert len(spellings) == len(set(spellings))
    assert all(spelling.startswith("-") for spelling in spellings)


@pytest.mark.parametrize(
    ("word", "name", "values"),
    [
        ("-c", "--ctx-size", 1),
        ("--ctx_size", "--ctx-size", 1),
        ("-ngl", "--n-gpu-layers", 1),
        ("--gpu-layers", "--n-gpu-layers", 1),
        ("--jinja", "--jinja", 0),
        ("--no-jinja", "--jinja", 0),
        ("--no_webui", "--webui", 0),
        ("-nkvo", "--kv-offload", 0),
        ("--no-host", "--no-host", 0),
        ("--control-vector-layer-range", "--control-vector-layer-range", 2),
    ],
)
def test_arguments(word: str, name: str, values: int) -> None:
    option = argument(word)
    assert option
    assert (option.name, option.values) == (name, values)


@pytest.mark.parametrize(
    "word", ["ctx-size", "-ctx-size", "--c", "-c=5", "-no_kvu", "--ctx-size=5", "", "-", "--", "-1"]
)
def test_what_is_no_argument(word: str) -> None:
    assert argument(word) is None


@pytest.mark.parametrize(
    ("word", "name", "spelling"),
    [
        ("c", "--ctx-size", "-c"),
        ("ctx-size", "--ctx-size", "--ctx-size"),
        ("n-gpu-layers", "--n-gpu-layers", "--n-gpu-layers"),
        ("no-jinja", "--jinja", "--no-jinja"),
        ("nkvo", "--kv-offload", "-nkvo"),
        ("LLAMA_ARG_CTX_SIZE", "--ctx-size", "--ctx-size"),
        ("LLAMA_ARG_N_GPU_LAYERS", "--n-gpu-layers", "--n-gpu-layers"),
        ("LLAMA_ARG_NO_JINJA", "--jinja", "--no-jinja"),
        ("LLAMA_ARG_BATCH", "--batch-size", "--batch-size"),
        ("LLAMA_ARG_N_PARALLEL", "--parallel", "--parallel"),
        ("LLAMA_ARG_THINK", "--reasoning-format", "--reasoning-format"),
        ("HF_TOKEN", "--hf-token", "--hf-token"),
    ],
)
def test_keys(word: str, name: str, spelling: str) -> None:
    found = key(word)
    assert found
    assert (found[0].name, found[1]) == (name, spelling)


@pytest.mark.parametrize("word", ["ctx_size", "--ctx-size", "", "LLAMA_ARG_", "LLAMA_ARG_NOTHING", "PATH", "version"])
def test_what_is_no_key(word: str) -> None:
    """Underscores for dashes are taken on the command line only."""
    assert key(word) is None


def test_what_the_gateway_allows_is_known() -> None:
    assert not [word for word in arguments._ALLOWED if not argument(word)]
    assert not [word for word in arguments._REFUSED if not argument(word)]
