"""llamaproxy.backends.embedded_flags: llama-server's flags and the parameters they set, in pure code."""

import argparse
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llamaproxy.backends import embedded_flags

ACCEPTED: list[tuple[str, str | None, str, Any]] = [
    ("-mm", "p.gguf", "mmproj.path", "p.gguf"),
    ("--mmproj", "p.gguf", "mmproj.path", "p.gguf"),
    ("-a", "one, two,", "model_alias", ["one", "two"]),
    ("--alias", "one", "model_alias", ["one"]),
    ("--host", "/run/e.sock", "hostnames", ["/run/e.sock"]),
    ("--host", '127.0.0.1,"/run/a,b.sock"', "hostnames", ["127.0.0.1", "/run/a,b.sock"]),
    ("--port", "0", "port", 0),
    ("--port", "65535", "port", 65535),
    ("--api-key", "-k1,k2", "api_keys", ["-k1", "k2"]),
    ("--threads-http", "-1", "n_threads_http", -1),
    ("--metrics", None, "endpoint_metrics", True),
    ("--slots", None, "endpoint_slots", True),
    ("--no-slots", None, "endpoint_slots", False),
    ("--slot-save-path", "/", "slot_save_path", "/"),
    ("-c", "0", "n_ctx", 0),
    ("--ctx-size", "4096", "n_ctx", 4096),
    ("--ctx_size", "4096", "n_ctx", 4096),
    ("-b", "64", "n_batch", 64),
    ("--batch-size", "64", "n_batch", 64),
    ("-ub", "32", "n_ubatch", 32),
    ("--ubatch-size", "32", "n_ubatch", 32),
    ("-np", "-1", "n_parallel", -1),
    ("--parallel", "2", "n_parallel", 2),
    ("-t", "3", "cpuparams.n_threads", 3),
    ("--threads", "3", "cpuparams.n_threads", 3),
    ("-tb", "4", "cpuparams_batch.n_threads", 4),
    ("--threads-batch", "4", "cpuparams_batch.n_threads", 4),
    ("-ngl", "auto", "n_gpu_layers", -1),
    ("--gpu-layers", "all", "n_gpu_layers", -2),
    ("--n-gpu-layers", "20", "n_gpu_layers", 20),
    ("-fa", "on", "flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_ENABLED"),
    ("-fa", "0", "flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_DISABLED"),
    ("--flash-attn", "auto", "flash_attn_type", "LLAMA_FLASH_ATTN_TYPE_AUTO"),
    ("-ctk", "q8_0", "cache_type_k", "GGML_TYPE_Q8_0"),
    ("--cache-type-k", "iq4_nl", "cache_type_k", "GGML_TYPE_IQ4_NL"),
    ("-ctv", "bf16", "cache_type_v", "GGML_TYPE_BF16"),
    ("--cache-type-v", "f32", "cache_type_v", "GGML_TYPE_F32"),
    ("-cram", "-1", "cache_ram_mib", -1),
    ("--cache-ram", "0", "cache_ram_mib", 0),
    ("--cache-idle-slots", None, "cache_idle_slots", True),
    ("--no-cache-idle-slots", None, "cache_idle_slots", False),
    ("-s", "-1", "sampling.seed", 2**32 - 1),
    ("--seed", "42", "sampling.seed", 42),
    ("--embedding", None, "embedding", True),
    ("--embeddings", None, "embedding", True),
    ("--pooling", "cls", "pooling_type", "LLAMA_POOLING_TYPE_CLS"),
    ("--jinja", None, "use_jinja", True),
    ("--no-jinja", None, "use_jinja", False),
    ("--chat-template", "-{{ x }}", "chat_template", "-{{ x }}"),
]

REFUSED = [
    ("-c", "-1", "0 (the model's own) or a number of tokens"),
    ("-c", "4k", "0 (the model's own) or a number of tokens"),
    ("-c", "2147483648", "0 (the model's own) or a number of tokens"),
    ("-b", "0", "1 or more"),
    ("-ub", "0", "1 or more"),
    ("-np", "0", "-1 (automatic) or a number of slots from 1"),
    ("-np", "-2", "-1 (automatic) or a number of slots from 1"),
    ("-t", "two", "a number of threads"),
    ("--port", "65536", "a port from 0 to 65535"),
    ("--threads-http", "", "-1 (automatic) or a number of threads"),
    ("-ngl", "most", "auto, all or a number of layers"),
    ("-fa", "maybe", "on, off or auto"),
    ("-ctk", "q6_k", "f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1"),
    ("-ctv", "q8", "f32, f16, bf16, q8_0, q4_0, q4_1, iq4_nl, q5_0, q5_1"),
    ("-cram", "-2", "-1 (no limit), 0 (off) or a number of MiB"),
    ("-s", "4294967296", "-1 (random) or a number up to 4294967295"),
    ("--pooling", "sum", "none, mean, cls, last, rank"),
    ("--host", ",", "one value or more, separated by commas"),
    ("--slot-save-path", "/no/such/directory", "an existing directory"),
]


class Enumeration:
    def __getattr__(self, member: str) -> str:
        return f"enumerator {member}"


def fake_engine() -> SimpleNamespace:
    def common_params() -> SimpleNamespace:
        nested = {name: SimpleNamespace() for name in ("model", "mmproj", "cpuparams", "cpuparams_batch", "sampling")}
        return SimpleNamespace(**nested)

    enumerations = {name: Enumeration() for name in embedded_flags.ENUMERATIONS.values()}
    return SimpleNamespace(CommonParams=common_params, **enumerations)


def unasked() -> str:
    raise AssertionError("the engine is loaded for nothing")


def parse(*argv: str, environ: dict[str, str] | None = None) -> argparse.Namespace:
    return embedded_flags.parse(["-m", "m.gguf", *argv], environ or {}, unasked)


def params_of(*argv: str) -> Any:
    return embedded_flags.to_params(parse(*argv), fake_engine())


# --- flags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "value", "path", "expected"), ACCEPTED)
def test_a_flag_sets_its_parameter_and_no_other(flag: str, value: str | None, path: str, expected: Any) -> None:
    options = parse(flag) if value is None else parse(flag, value)
    assert vars(options) == {"model.path": "m.gguf", path: expected}


def test_every_flag_is_tried_above() -> None:
    flags = {name for flag in embedded_flags.FLAGS for name in flag.names.split()}
    assert flags - {"-m", "--model"} == {flag for flag, *_ in ACCEPTED if "_" not in flag}


@pytest.mark.parametrize(("flag", "value", "accepted"), REFUSED)
def test_a_bad_value_exits_2_and_names_flag_and_accepted_values(
    flag: str, value: str, accepted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        parse(flag, value)
    assert exited.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {flag}" in message
    assert f"accepted is {accepted}" in message


@pytest.mark.parametrize("flag", ["--tools", "--ctx", "-sp", "-c512", "-mu", "--port=80", "stray", "--", "-"])
def test_an_unknown_flag_exits_2_and_is_named(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        parse(flag, "1")
    assert exited.value.code == 2
    assert f"no flag {flag}\n" in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "named"), [(["-c", "512"], "-m/--model"), (["-m", "m.gguf", "-c"], "-c")])
def test_what_is_missing_is_named(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        embedded_flags.parse(argv, {}, unasked)
    assert exited.value.code == 2
    assert named in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("argv", [["-t", "0"], ["-t", "-1"]])
def test_threads_without_a_number_take_every_usable_core(argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(7)), raising=False)
    assert vars(parse(*argv))["cpuparams.n_threads"] == 7


def test_the_last_of_a_repeated_flag_wins() -> None:
    assert parse("-c", "512", "--ctx-size", "1024").n_ctx == 1024
    assert parse("--no-slots", "--slots").endpoint_slots is True


def test_slot_save_path_gets_its_slash(tmp_path: Path) -> None:
    assert parse("--slot-save-path", str(tmp_path)).slot_save_path == f"{tmp_path}/"


def test_reranking_implies_embedding_and_rank_pooling() -> None:
    rank, mean = "LLAMA_POOLING_TYPE_RANK", "LLAMA_POOLING_TYPE_MEAN"
    for flag in ("--rerank", "--reranking"):
        assert vars(parse(flag)) == {"model.path": "m.gguf", "embedding": True, "pooling_type": rank}
    assert parse("--pooling", "mean", "--rerank").pooling_type == rank
    assert parse("--rerank", "--pooling", "mean").pooling_type == mean


def test_the_api_key_comes_from_the_environment_unless_a_flag_gives_one() -> None:
    assert parse(environ={"LLAMA_API_KEY": "-env1,env2"}).api_keys == ["-env1", "env2"]
    assert parse("--api-key", "flag", environ={"LLAMA_API_KEY": "env"}).api_keys == ["flag"]
    assert "api_keys" not in parse(environ={"LLAMA_API_KEY": "", "LLAMA_ARG_CTX_SIZE": "512"})


def test_the_version_is_the_engines(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        embedded_flags.parse(["--version"], {}, lambda: "engine 1.2")
    assert (exited.value.code, capsys.readouterr().out) == (0, "engine 1.2\n")


@pytest.mark.parametrize("no", ["0", "off", "false", "disabled"])
def test_so_does_the_keeping_of_idle_slots(no: str) -> None:
    environ = {"LLAMA_ARG_CACHE_IDLE_SLOTS": no}
    assert parse(environ=environ).cache_idle_slots is False
    assert parse("--cache-idle-slots", environ=environ).cache_idle_slots is True
    assert "cache_idle_slots" not in parse(environ={"LLAMA_ARG_CACHE_IDLE_SLOTS": "1"})


# --- parameters ------------------------------------------------------------------------------------------------------


def test_defaults_are_those_of_llama_server_not_of_the_wheel() -> None:
    params = params_of()
    assert (params.n_parallel, params.port) == (-1, 8080)
    assert params.default_template_kwargs == {"preserve_reasoning": "true"}
    assert not hasattr(params, "n_ctx")


def test_paths_reach_nested_parameters_and_enumerators_are_looked_up() -> None:
    params = params_of("-t", "3", "-s", "42", "-ctk", "q8_0", "-fa", "off", "--pooling", "last", "-np", "2")
    assert (params.model.path, params.cpuparams.n_threads, params.sampling.seed) == ("m.gguf", 3, 42)
    assert params.cache_type_k == "enumerator GGML_TYPE_Q8_0"
    assert params.flash_attn_type == "enumerator LLAMA_FLASH_ATTN_TYPE_DISABLED"
    assert params.pooling_type == "enumerator LLAMA_POOLING_TYPE_LAST"
    assert params.n_parallel == 2


def test_only_a_context_of_zero_forbids_to_shrink_it() -> None:
    assert params_of("-c", "0").fit_params_min_ctx == -1
    assert not hasattr(params_of("-c", "512"), "fit_params_min_ctx")


def test_every_flag_fits_the_wheel() -> None:
    xllamacpp = pytest.importorskip("xllamacpp", reason="no wheel of the engine for this platform")
    for flag, value, path, expected in ACCEPTED:
        got = embedded_flags.to_params(parse(flag) if value is None else parse(flag, value), xllamacpp)
        for name in path.split("."):
            got = getattr(got, name)
        assert getattr(got, "name", got) == (set(expected) if path == "model_alias" else expected), flag
