"""llamaproxy.backends.command: argument list and environment of an engine process."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from llamaproxy.backends.command import Address, Command, build, build_other
from llamaproxy.config import EngineConfig
from llamaproxy.modelconfig import ModelConfig

SOCKET = Address(socket=Path("/run/x/1.sock"))
TCP = Address(port=20123, key="s3cret-of-this-spawn")
PROGRAM = ("/usr/bin/llama-server",)


def built(
    model: ModelConfig | None = None,
    engine: EngineConfig | None = None,
    address: Address = SOCKET,
    inherited: Mapping[str, str] | None = None,
    slots: Path | None = None,
) -> Command:
    model, engine = model or ModelConfig(path="/m/qwen.gguf"), engine or EngineConfig()
    return build(PROGRAM, "qwen", model, engine, address, inherited or {}, slots)


def test_the_plainest_command() -> None:
    assert built().argv == (
        "/usr/bin/llama-server",
        "-m",
        "/m/qwen.gguf",
        "--alias",
        "qwen",
        "--host",
        "/run/x/1.sock",
        "--metrics",
    )
    assert built().environment == {}


def test_an_engine_may_be_a_program_with_arguments_of_its_own() -> None:
    command = build(("python", "-m", "engine"), "qwen", ModelConfig(path="/m/qwen.gguf"), EngineConfig(), SOCKET, {})
    assert command.argv[:5] == ("python", "-m", "engine", "-m", "/m/qwen.gguf")


def test_a_tcp_address_is_loopback() -> None:
    argv = built(address=TCP).argv
    at = argv.index("--host")
    assert argv[at : at + 4] == ("--host", "127.0.0.1", "--port", "20123")


def test_typed_settings_become_flags() -> None:
    model = ModelConfig(
        path="/m/q.gguf", mmproj="/m/p.gguf", ctx_size=0, batch_size=64, threads=3, gpu_layers=20, parallel=2
    )
    typed = "--mmproj /m/p.gguf --ctx-size 0 --batch-size 64 --threads 3 --gpu-layers 20 --parallel 2"
    assert typed in " ".join(built(model).argv)


@pytest.mark.parametrize(("layers", "value"), [(0, "0"), (7, "7"), (-1, "all")])
def test_gpu_layers(layers: int, value: str) -> None:
    argv = built(ModelConfig(path="/m", gpu_layers=layers)).argv
    assert argv[argv.index("--gpu-layers") + 1] == value


def test_of_a_repeated_flag_the_last_counts_so_the_more_special_comes_later() -> None:
    model = ModelConfig(path="/m", threads=1, args=("-t", "3"))
    argv = built(model, EngineConfig(args=("-t", "2"))).argv
    assert argv[argv.index("--threads") :] == ("--threads", "1", "--metrics", "-t", "2", "-t", "3")


def test_text_stays_one_argument_whatever_a_shell_would_make_of_it() -> None:
    path = "/models/my model; $(reboot) `x` 'y'.gguf"
    assert path in built(ModelConfig(path=path)).argv


def test_the_key_travels_in_the_environment_and_not_in_the_arguments() -> None:
    command = built(address=TCP)
    assert command.environment["LLAMA_API_KEY"] == TCP.key
    assert not any(str(TCP.key) in argument for argument in command.argv)


def test_a_socket_needs_no_key() -> None:
    assert "LLAMA_API_KEY" not in built().environment


def test_the_key_of_this_spawn_wins_over_a_configured_one() -> None:
    engine = EngineConfig(env={"LLAMA_API_KEY": "configured"})
    assert built(engine=engine, address=TCP).environment["LLAMA_API_KEY"] == TCP.key


class TestSlots:
    def test_a_directory_for_them_is_an_argument(self) -> None:
        argv = built(slots=Path("/cache/kv/a b")).argv
        assert argv[-2:] == ("--slot-save-path", "/cache/kv/a b")
        assert "--slot-save-path" not in built().argv

    def test_idle_ones_keep_what_they_hold_in_a_way_that_old_engines_do_not_mind(self) -> None:
        assert built(slots=Path("/kv")).environment == {"LLAMA_ARG_CACHE_IDLE_SLOTS": "0"}
        assert built().environment == {}

    def test_unless_the_user_says_otherwise(self) -> None:
        engine = EngineConfig(env={"LLAMA_ARG_CACHE_IDLE_SLOTS": "1"})
        assert built(engine=engine, slots=Path("/kv")).environment == {"LLAMA_ARG_CACHE_IDLE_SLOTS": "1"}


def test_neither_address_nor_command_shows_the_key_when_printed() -> None:
    command = built(address=TCP, engine=EngineConfig(env={"TOKEN": "t0ken"}))
    for text in (repr(TCP), str(TCP), repr(command), str(command), f"{command}"):
        assert "s3cret" not in text
        assert "t0ken" not in text


def test_addresses_as_people_read_them() -> None:
    assert str(SOCKET) == "unix:/run/x/1.sock"
    assert str(TCP) == "127.0.0.1:20123"


@pytest.mark.parametrize(
    "name",
    """
    PATH HOME USER LANG LC_ALL LC_CTYPE TZ TMPDIR LD_LIBRARY_PATH DYLD_LIBRARY_PATH SSL_CERT_FILE CUDA_VISIBLE_DEVICES
    NVIDIA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES HSA_OVERRIDE_GFX_VERSION GPU_DEVICE_ORDINAL
    ONEAPI_DEVICE_SELECTOR ZE_AFFINITY_MASK SYCL_CACHE_DIR VK_ICD_FILENAMES GGML_VK_VISIBLE_DEVICES OMP_NUM_THREADS
    KMP_AFFINITY GOMP_CPU_AFFINITY
    """.split(),
)
def test_what_an_engine_needs_is_passed_on(name: str) -> None:
    assert built(inherited={name: "value"}).environment == {name: "value"}


@pytest.mark.parametrize(
    "name",
    """
    LLAMA_ARG_HOST LLAMA_ARG_TOOLS LLAMA_API_KEY LLAMA_SERVER_ROUTER_PORT LLAMA_CACHE LLAMAPROXY_KEYS__X__SHA256
    LLAMAPROXY_SERVER__PORT HF_TOKEN HUGGING_FACE_HUB_TOKEN OPENAI_API_KEY AWS_SECRET_ACCESS_KEY SSH_AUTH_SOCK
    LD_PRELOAD PYTHONPATH PYTHONSTARTUP BASH_ENV http_proxy FAKE_OOM NOTIFY_SOCKET XPATH PATH_X MY_CUDA_TOKEN
    PASSWORD Path
    """.split(),
)
def test_nothing_else_is(name: str) -> None:
    assert built(inherited={name: "value"}).environment == {}


def test_configured_variables_are_added_and_the_models_own_win() -> None:
    engine = EngineConfig(env={"A": "engine", "B": "engine", "PATH": "/engine"})
    model = ModelConfig(path="/m", env={"B": "model", "LLAMA_ARG_THREADS": "2"})
    environment = built(model, engine, inherited={"PATH": "/usr/bin", "HOME": "/root"}).environment
    assert environment == {
        "HOME": "/root",
        "PATH": "/engine",
        "A": "engine",
        "B": "model",
        "LLAMA_ARG_THREADS": "2",
    }


class TestOther:
    """The operator's own command."""

    def built(self, address: Address, **settings: object) -> Command:
        model = ModelConfig.model_validate({"command": ["serve", "--as=${name}", "${port}"], **settings})
        engine = EngineConfig(args=("--threads", "2"), env={"ALL": "${name}", "BOTH": "engine"})
        return build_other("org/qwen $(x)", model, engine, address, {"PATH": "/bin", "SECRET": "1"})

    def test_it_is_filled_in_word_by_word_and_nothing_is_added(self) -> None:
        assert self.built(TCP).argv == ("serve", "--as=org/qwen $(x)", "20123")
        words = ["serve", "${socket}", "${api_key}"]
        assert self.built(SOCKET, command=words).argv == ("serve", "/run/x/1.sock", "")

    def test_its_environment_is_clean_and_filled_in_too(self) -> None:
        built = self.built(TCP, env={"OWN_KEY": "${api_key}", "BOTH": "model ${port}"})
        assert built.environment == {
            "PATH": "/bin",
            "ALL": "${name}",
            "BOTH": "model 20123",
            "OWN_KEY": "s3cret-of-this-spawn",
            "LLAMA_API_KEY": "s3cret-of-this-spawn",
        }
        assert "s3cret" not in repr(built)
