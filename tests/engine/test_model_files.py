"""Facts about model files, asked of the llama-server on PATH: which it finds, and what memory it takes for them."""

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.backends import arguments
from llamaproxy.backends.command import Address, build
from llamaproxy.config import Config, EngineConfig
from llamaproxy.errors import ConfigError
from llamaproxy.models import options, swap_command
from llamaproxy.models.footprint import estimate_bytes, kv_bytes_per_token
from llamaproxy.models.gguf import read
from llamaproxy.models.presets import import_presets
from llamaproxy.models.scan import scan
from tests.folders import short_folder
from tests.models.ggufs import Types, shards, write

PROGRAM = shutil.which("llama-server") or ""
pytestmark = pytest.mark.skipif(not PROGRAM, reason="no llama-server on PATH")
PATIENCE = 20.0
"""Seconds."""


class Engine:
    """One llama-server; `log` is what it has said."""

    def __init__(self, folder: Path, *args: str) -> None:
        self._log = folder / "engine.log"
        self._socket = str(short_folder() / "e.sock")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LLAMA_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "--host", self._socket, *args],
                stdout=log,
                stderr=log,
                env={**kept, "HOME": str(folder), "LLAMA_CACHE": str(folder / "cache")},
            )

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")

    def get(self, path: str) -> Any:
        """The body of a reply with status 200, once there is one."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and self._process.poll() is None:
            connection = http.client.HTTPConnection("engine")
            try:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.connect(self._socket)
                connection.request("GET", path)
                response = connection.getresponse()
                if response.status == 200:
                    return json.loads(response.read())
            except OSError:
                pass
            finally:
                connection.close()
            time.sleep(0.05)
        raise AssertionError(self.log)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        Path(self._socket).unlink(missing_ok=True)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    running: list[Engine] = []

    def start(*args: str) -> Engine:
        folder = tmp_path / f"engine{len(running)}"
        folder.mkdir()
        running.append(Engine(folder, *args))
        return running[-1]

    yield start
    for one in running:
        one.stop()


def listed(engine: Engine) -> dict[str, list[str]]:
    """The arguments of every model that a router lists, without those that it adds itself."""
    models = {model["id"]: model["status"]["args"][1:] for model in engine.get("/models")["data"]}
    return {name: [word for word in args if not word.endswith(".sock")] for name, args in models.items()}


def value(args: list[str], flag: str) -> str | None:
    return args[args.index(flag) + 1] if flag in args else None


def test_the_same_models_in_a_directory(engine: Callable[..., Engine], tmp_path: Path) -> None:
    folder = tmp_path / "models"
    write(folder / "plain.gguf")
    write(folder / "a.gguf.gguf")
    write(folder / "mmproj-root.gguf", "clip")
    write(folder / "x-mmproj-y.gguf", "clip")
    write(folder / "mtp-root.gguf")
    write(folder / "LOUD.GGUF")
    write(folder / "vision" / "x.gguf")
    write(folder / "vision" / "x-mmproj.gguf", "clip")
    write(folder / "vision" / "mtp-x.gguf")
    shards(folder / "big", "z", 3)
    write(folder / "big" / "y.gguf")
    write(folder / "deep" / "deeper" / "x.gguf")
    write(folder / "dir.gguf" / "x.gguf")
    found = {model.name: model for model in scan(folder).models}
    theirs = listed(engine("--models-dir", str(folder)))
    assert set(found) == set(theirs) == {"plain", "a", "vision", "big", "dir.gguf"}
    for name, args in theirs.items():
        model = found[name]
        assert value(args, "--model") == str(model.path)
        assert value(args, "--mmproj") == (str(model.mmproj) if model.mmproj else None)
        assert value(args, "--model-draft") == (str(model.draft) if model.draft else None)


def test_what_the_router_lists_and_cannot_load(engine: Callable[..., Engine], tmp_path: Path) -> None:
    """Where the rules here differ on purpose."""
    folder = tmp_path / "models"
    write(folder / ".hidden.gguf")
    (folder / "junk.gguf").write_text("junk")
    shards(folder, "s", 2)
    write(folder / "two" / "a.gguf")
    write(folder / "two" / "b.gguf")
    theirs = listed(engine("--models-dir", str(folder)))
    assert set(theirs) == {".hidden", "junk", "s-00001-of-00002", "s-00002-of-00002", "two"}
    assert [model.name for model in scan(folder).models] == ["s-00001-of-00002"]


PRESETS = """\
version = 1
[*]
c = 8192
ngl = 8 ; a comment
swa-full = true
[org/model:ud-q4_k_xl]
model = /models/a b.gguf#another
no-kv-unified = true
nkvo = off
jinja = off
cache-prompt = true
fa = on
LLAMA_ARG_CACHE_RAM = 0
LLAMA_ARG_N_PARALLEL = 3
alias = one, two
[plain]
model = /gone.gguf
[plain]
c = 1
ctx-size = 2
model = /models/plain.gguf
verbose = maybe
embedding = false
swa-full = off
"""


def test_the_same_presets(engine: Callable[..., Engine], tmp_path: Path) -> None:
    """Both say the same of every model: ours in fields and arguments, theirs in arguments only."""
    file = tmp_path / "presets.ini"
    file.write_text(PRESETS)
    imported = import_presets(PRESETS, "llama-server")
    ours = Config.model_validate(tomllib.loads(imported.toml)).models
    theirs = listed(engine("--models-preset", str(file)))
    assert not imported.unmapped
    assert set(ours) == set(theirs) == {"org/model:Q4_K_XL", "plain"}
    assert ours["org/model:Q4_K_XL"].aliases == ("org/model:ud-q4_k_xl", "one", "two")
    address = Address(socket=Path("/tmp/lp-x"))
    for name, model in ours.items():
        command = build(("engine",), name, model, EngineConfig(), address, {})
        assert pairs(command.argv[1:]) == pairs(theirs[name])


def pairs(args: Sequence[str]) -> set[tuple[str, ...]]:
    """Options with their values under one name each, but for those that the gateway or the router sets."""
    own = {"--host", "--port", "--alias", "--metrics", "--log-colors"}
    groups = [(option, words) for option, words in swap_command.options(args) if option and option.name not in own]
    return {(words[0] if words[0] in option.negatives else option.name, *words[1:]) for option, words in groups}


@pytest.mark.parametrize(
    "text",
    ["[a]\n model = /x\n", "[a] b\nmodel = /x\n", "[]\nmodel = /x\n", " [a]\nmodel = /x\n", "[a]\nmodel\n", "1x = 2\n"],
)
def test_what_neither_reads(engine: Callable[..., Engine], tmp_path: Path, text: str) -> None:
    file = tmp_path / "presets.ini"
    file.write_text(text)
    with pytest.raises(AssertionError, match="failed to parse"):
        engine("--models-preset", str(file)).get("/models")
    with pytest.raises(ConfigError, match="line "):
        import_presets(text, "llama-server")


def test_the_options_are_those_of_the_table() -> None:
    """Every spelling that it names, with as many values; a build may have lost a few that are older or newer."""
    told = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
    theirs = dict(_help(told))
    assert len(theirs) > 300
    unknown = [word for word in theirs if not options.argument(word)]
    assert set(unknown) <= set("-h --help --usage --version -cl --cache-list --completion-bash --list-devices".split())
    wrong = {word for word, values in theirs.items() if (found := options.argument(word)) and found.values != values}
    assert not wrong


def _help(text: str) -> Iterator[tuple[str, int]]:
    spelled = r"--?[A-Za-z0-9][\w.-]*"
    for line in text.splitlines():
        if match := re.match(rf"({spelled}(?:,\s+{spelled})*)(?: (\S[^ ]*(?: \S+)*?))?(?:\s{{2,}}|$)", line):
            hint = match[2] or ""
            for word in re.findall(spelled, match[1]):
                yield word, 2 if hint == "START END" else bool(hint)


def test_the_variables_are_those_of_the_table() -> None:
    told = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True).stdout
    variables = set(re.findall(r"\(env: (\w+)\)", told))
    assert len(variables) > 100
    assert not [name for name in variables if not options.key(name)]


def test_the_allowed_arguments_are_known() -> None:
    """So that what the gateway allows can be told from its values."""
    assert not [word for word in arguments._ALLOWED if not options.argument(word)]


Shapes = dict[str, tuple[int, ...]]
VOCABULARY: dict[str, Any] = {
    "tokenizer__ggml__model": "llama",
    "tokenizer__ggml__pre": "default",
    "tokenizer__ggml__tokens": ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(61))],
    "tokenizer__ggml__scores": [0.0] * 64,
    "tokenizer__ggml__token_type": [2, 3, 3, *[6] * 61],
}
SHAPE: dict[str, Any] = {"context_length": 8192, "embedding_length": 64, "attention__layer_norm_rms_epsilon": 1e-6}
WHOLE: Shapes = {"token_embd.weight": (64, 64), "output_norm.weight": (64,)}


def gemma3(folder: Path) -> Path:
    settings = SHAPE | {"block_count": 7, "feed_forward_length": 128, "rope__freq_base": 1e6}
    settings |= {"attention__head_count": 4, "attention__head_count_kv": 2, "attention__sliding_window": 512}
    settings |= {"attention__key_length": 32, "attention__value_length": 32}
    norms: Shapes = {
        f"{name}.weight": (64,) for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
    }
    shapes: Shapes = {"attn_q": (128, 64), "attn_k": (64, 64), "attn_v": (64, 64), "attn_output": (64, 128)}
    shapes |= {"attn_q_norm": (32,), "attn_k_norm": (32,)}
    shapes |= {"ffn_gate": (128, 64), "ffn_up": (128, 64), "ffn_down": (64, 128)}
    layer = norms | {f"{name}.weight": shape for name, shape in shapes.items()}
    return loadable(folder, "gemma3", [layer] * 7, settings)


def openelm(folder: Path) -> Path:
    heads, kv_heads, widths = [4, 4, 8], [1, 2, 4], [128, 128, 256]
    settings = SHAPE | {"block_count": 3, "feed_forward_length": widths, "rope__dimension_count": 32}
    settings |= {"attention__head_count": heads, "attention__head_count_kv": kv_heads}
    settings |= {"attention__key_length": 32, "attention__value_length": 32}
    norms: Shapes = {"attn_norm.weight": (64,), "ffn_norm.weight": (64,)}
    norms |= {"attn_q_norm.weight": (32,), "attn_k_norm.weight": (32,)}
    layers = [
        {**norms, "attn_qkv.weight": ((q + 2 * kv) * 32, 64), "attn_output.weight": (64, q * 32)}
        | {"ffn_gate.weight": (width, 64), "ffn_up.weight": (width, 64), "ffn_down.weight": (64, width)}
        for q, kv, width in zip(heads, kv_heads, widths, strict=True)
    ]
    return loadable(folder, "openelm", layers, settings)


def mamba(folder: Path) -> Path:
    settings = SHAPE | {"block_count": 3, "feed_forward_length": 0, "attention__head_count": 0}
    settings |= {"ssm__conv_kernel": 4, "ssm__inner_size": 128, "ssm__state_size": 16, "ssm__time_step_rank": 4}
    layer: Shapes = {"attn_norm.weight": (64,), "ssm_in.weight": (256, 64), "ssm_conv1d.weight": (128, 4)}
    layer |= {"ssm_conv1d.bias": (128,), "ssm_x.weight": (36, 128), "ssm_dt.weight": (128, 4), "ssm_dt.bias": (128,)}
    layer |= {"ssm_a": (128, 16), "ssm_d": (128,), "ssm_out.weight": (64, 128)}
    return loadable(folder, "mamba", [layer] * 3, settings)


def loadable(folder: Path, architecture: str, layers: Sequence[Shapes], settings: Mapping[str, Any]) -> Path:
    blocks = {f"blk.{number}.{name}": shape for number, layer in enumerate(layers) for name, shape in layer.items()}
    tensors = [(name, shape, Types.F32) for name, shape in {**WHOLE, **blocks}.items()]
    return write(folder / f"{architecture}.gguf", architecture, tensors, **VOCABULARY, **settings)


CACHE = re.compile(r"size = +([0-9.]+) MiB \( *(\d+) cells, +(\d+) layers")


@pytest.mark.parametrize("slots", [None, 2])
@pytest.mark.parametrize("make", [gemma3, openelm, mamba], ids=lambda make: make.__name__)
def test_the_size_of_caches(
    engine: Callable[..., Engine], tmp_path: Path, make: Callable[[Path], Path], slots: int | None
) -> None:
    path = make(tmp_path)
    more = ["--parallel", str(slots)] if slots else []
    running = engine("--model", str(path), "--ctx-size", "4096", "--no-warmup", "-lv", "5", *more)
    assert running.get("/health") == {"status": "ok"}
    told = {(int(cells), int(layers)): float(size) for size, cells, layers in CACHE.findall(running.log)}
    assert told, running.log
    info = read(path)
    in_f16, in_f32 = (estimate_bytes([info], 4096, slots, name, name) for name in ("f16", "f32"))
    if make is mamba:
        states = estimate_bytes([info], 4096, 9) - estimate_bytes([info], 4096, 8) - 8 * 64
        assert states * (slots or 4) / 1024**2 == pytest.approx(sum(told.values()), abs=0.01)
    else:
        assert (in_f32 - in_f16) / 1024**2 == pytest.approx(sum(told.values()), abs=0.02)
    if make is gemma3:
        assert set(told) == ({(2048, 1), (1024, 6)} if slots else {(4096, 1), (2560, 6)})
    assert kv_bytes_per_token(info) == {"gemma3": 256, "openelm": 896, "mamba": 0}[info.architecture]
