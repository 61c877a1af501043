"""llama-server's command line, as far as the embedded engine can honour it.

Owns which flags there are, what each accepts, and which of the engine's parameters it sets. Must not ignore a flag:
what is not mapped is refused by name. Knows no process and loads no engine: `embedded` does.
"""

import argparse
import csv
import functools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

PROGRAM: Final = "python -m llamaproxy.backends.embedded"
INT32_MAX: Final = 2**31 - 1
UINT32_MAX: Final = 2**32 - 1

# Parameters that hold an enumerator of the engine, and the enumeration it belongs to.
ENUMERATIONS: Final = {
    "cache_type_k": "ggml_type",
    "cache_type_v": "ggml_type",
    "flash_attn_type": "llama_flash_attn_type",
    "pooling_type": "llama_pooling_type",
}


def refuse(text: str, accepted: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"invalid value {text!r}: accepted is {accepted}")


def integer(accepted: str, low: int, high: int = INT32_MAX, never: int | None = None) -> Callable[[str], int]:
    """Converter for a whole number from `low` to `high`, `never` left out; `accepted` says the same in words."""

    def convert(text: str) -> int:
        if re.fullmatch(r"[+-]?[0-9]{1,10}", text) is None or not low <= int(text) <= high or int(text) == never:
            raise refuse(text, accepted)
        return int(text)

    return convert


def one_of(accepted: str, members: Mapping[str, str]) -> Callable[[str], str]:
    """Converter for a word that stands for a member of one of the engine's enumerations."""

    def convert(text: str) -> str:
        if text not in members:
            raise refuse(text, accepted)
        return members[text]

    return convert


def named(prefix: str, *words: str) -> Callable[[str], str]:
    return one_of(", ".join(words), {word: prefix + word.upper() for word in words})


def gpu_layers(text: str) -> int:
    automatic = {"auto": -1, "all": -2}
    return automatic[text] if text in automatic else integer("auto, all or a number of layers", -2)(text)


def threads(text: str) -> int:
    count = integer("a number of threads, or -1 for one per usable core", -1)(text)
    if count > 0:
        return count
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def seed(text: str) -> int:
    """-1 asks for a random seed, which the engine spells UINT32_MAX."""
    return integer(f"-1 (random) or a number up to {UINT32_MAX}", -1, UINT32_MAX)(text) & UINT32_MAX


def comma_separated(text: str) -> list[str]:
    """One or more values; one that holds a comma stands in double quotes."""
    values = [value.strip() for value in next(csv.reader([text]), [])]
    if not any(values):
        raise argparse.ArgumentTypeError("accepted is one value or more, separated by commas")
    return [value for value in values if value]


def directory(text: str) -> str:
    """The engine joins file names to this by mere concatenation, hence the slash at the end."""
    if not Path(text).is_dir():
        raise refuse(text, "an existing directory")
    return text if text.endswith("/") else f"{text}/"


class Flag(NamedTuple):
    """`names` as llama-server spells them, `path` of the parameter below CommonParams."""

    names: str
    path: str
    help: str
    convert: Callable[[str], Any] | None = None  # None: a switch, which stores `constant`
    metavar: str = "N"
    constant: bool = True


CACHE_TYPE: Final = named("GGML_TYPE_", "f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
POOLING: Final = named("LLAMA_POOLING_TYPE_", "none", "mean", "cls", "last", "rank")
FLASH_ATTN: Final = one_of(
    "on, off or auto",
    dict.fromkeys(("on", "enabled", "true", "1"), "LLAMA_FLASH_ATTN_TYPE_ENABLED")
    | dict.fromkeys(("off", "disabled", "false", "0"), "LLAMA_FLASH_ATTN_TYPE_DISABLED")
    | dict.fromkeys(("auto", "-1"), "LLAMA_FLASH_ATTN_TYPE_AUTO"),
)
CACHE_RAM: Final = integer("-1 (no limit), 0 (off) or a number of MiB", -1)
CTX_SIZE: Final = integer("0 (the model's own) or a number of tokens", 0)
PARALLEL: Final = integer("-1 (automatic) or a number of slots from 1", -1, never=0)
THREADS_HTTP: Final = integer("-1 (automatic) or a number of threads", -1)

FLAGS: Final = (
    Flag("-m --model", "model.path", "model to load (GGUF); required", str, "FILE"),
    Flag("-mm --mmproj", "mmproj.path", "multimodal projector", str, "FILE"),
    Flag("-a --alias", "model_alias", "names of the model in the API", comma_separated, "NAME,..."),
    Flag("--host", "hostnames", "addresses, or Unix sockets ending in .sock (127.0.0.1)", comma_separated, "HOST,..."),
    Flag("--port", "port", "TCP port (8080)", integer("a port from 0 to 65535", 0, 65535)),
    Flag("--api-key", "api_keys", "keys to ask for ($LLAMA_API_KEY)", comma_separated, "KEY,..."),
    Flag("--threads-http", "n_threads_http", "threads that answer HTTP (-1: automatic)", THREADS_HTTP),
    Flag("--metrics", "endpoint_metrics", "serve /metrics"),
    Flag("--slots", "endpoint_slots", "serve /slots (default)"),
    Flag("--no-slots", "endpoint_slots", "do not serve /slots", constant=False),
    Flag("--slot-save-path", "slot_save_path", "where slots may be saved", directory, "DIR"),
    Flag("-c --ctx-size", "n_ctx", "context in tokens, over all slots (0: the model's own)", CTX_SIZE),
    Flag("-b --batch-size", "n_batch", "logical batch in tokens (2048)", integer("1 or more", 1)),
    Flag("-ub --ubatch-size", "n_ubatch", "physical batch in tokens (512)", integer("1 or more", 1)),
    Flag("-np --parallel", "n_parallel", "slots (-1: four that share the context)", PARALLEL),
    Flag("-t --threads", "cpuparams.n_threads", "threads for generation (one per physical core)", threads),
    Flag("-tb --threads-batch", "cpuparams_batch.n_threads", "threads for prompts (as --threads)", threads),
    Flag("-ngl --gpu-layers --n-gpu-layers", "n_gpu_layers", "layers on the GPU: auto, all or a number", gpu_layers),
    Flag("-fa --flash-attn", "flash_attn_type", "flash attention (auto)", FLASH_ATTN, "on|off|auto"),
    Flag("-ctk --cache-type-k", "cache_type_k", "type of the KV cache's keys (f16)", CACHE_TYPE, "TYPE"),
    Flag("-ctv --cache-type-v", "cache_type_v", "type of the KV cache's values (f16)", CACHE_TYPE, "TYPE"),
    Flag("-cram --cache-ram", "cache_ram_mib", "MiB for cached prompts (8192; -1: no limit, 0: off)", CACHE_RAM),
    Flag("--cache-idle-slots", "cache_idle_slots", "idle slots give way to the cache of prompts (default)"),
    Flag("--no-cache-idle-slots", "cache_idle_slots", "idle slots keep what they hold", constant=False),
    Flag("-s --seed", "sampling.seed", "random seed (-1: a new one each time)", seed),
    Flag("--embedding --embeddings", "embedding", "embeddings only, for models made for that"),
    Flag("--pooling", "pooling_type", "pooling of embeddings (the model's own)", POOLING, "TYPE"),
    Flag("--jinja", "use_jinja", "chat templates by Jinja (default)"),
    Flag("--no-jinja", "use_jinja", "built-in chat templates only", constant=False),
    Flag("--chat-template", "chat_template", "template, or the name of a built-in one", str, "TEMPLATE"),
)


class Reranking(argparse.Action):
    """One flag that sets two parameters; a --pooling after it wins, as with llama-server."""

    def __call__(self, _parser: argparse.ArgumentParser, options: argparse.Namespace, *_: object) -> None:
        options.embedding = True
        options.pooling_type = "LLAMA_POOLING_TYPE_RANK"


class Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(self.const())
        parser.exit()


def parse(argv: Sequence[str], environ: Mapping[str, str], version: Callable[[], str]) -> argparse.Namespace:
    """The parameters that were given, by their path below CommonParams. Exits with 2 on a bad or unknown flag.

    `version` says which engine this is; it is asked only by who asks for it.
    """
    parser = build_parser(version)
    argv = [*from_environment(environ), *argv]  # first, so that a flag wins
    return parser.parse_args(list(whole_words(argv, parser)))


def from_environment(environ: Mapping[str, str]) -> list[str]:
    """The flags that the gateway gives as variables, with llama-server's words for no."""
    flags = ["--api-key", key] if (key := environ.get("LLAMA_API_KEY")) else []
    if environ.get("LLAMA_ARG_CACHE_IDLE_SLOTS") in ("0", "off", "false", "disabled"):
        flags.append("--no-cache-idle-slots")
    return flags


def build_parser(version: Callable[[], str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage="%(prog)s -m FILE [flags]",
        description="Serve one model with the embedded engine, under llama-server's flags. Defaults in parentheses.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version, nargs=0, const=version, help="print the engine's version and exit")
    for flag in FLAGS:
        takes: dict[str, Any] = {"action": "store_const", "const": flag.constant}
        if flag.convert is not None:
            takes = {"type": flag.convert, "metavar": flag.metavar, "required": flag.path == "model.path"}
        parser.add_argument(*flag.names.split(), dest=flag.path, help=flag.help, **takes)
    parser.add_argument("--rerank", "--reranking", action=Reranking, nargs=0, help="serve /rerank: --pooling rank")
    return parser


def whole_words(argv: Sequence[str], parser: argparse.ArgumentParser) -> Iterator[str]:
    """Join every flag to its value, because llama-server reads words where argparse reads letters.

    To llama-server `-sp` is an unknown flag and `-abc` a fine value; argparse takes the one for `-s p` and refuses the
    other. In long flags an underscore stands for a dash, as there.
    """
    takes_value = {name: flag.convert is not None for flag in FLAGS for name in flag.names.split()}
    takes_value |= dict.fromkeys(("-h", "--help", "--version", "--rerank", "--reranking"), False)
    words = iter(argv)
    for word in words:
        flag = word.replace("_", "-") if word.startswith("--") else word
        if flag not in takes_value:
            parser.error(f"the embedded engine has no flag {word}")
        if not takes_value[flag]:
            yield flag
        elif (value := next(words, None)) is None:
            parser.error(f"argument {flag}: expected a value")
        else:
            yield f"{flag}={value}"


def to_params(options: argparse.Namespace, engine: Any) -> Any:
    """`CommonParams` as llama-server would fill it from the same flags. `engine` is the module xllamacpp."""
    params = engine.CommonParams()
    set_program_defaults(params)
    for path, value in vars(options).items():
        *owners, name = path.split(".")
        if name in ENUMERATIONS:
            value = getattr(getattr(engine, ENUMERATIONS[name]), value)
        setattr(functools.reduce(getattr, owners, params), name, value)
    if getattr(options, "n_ctx", None) == 0:
        # Then the engine may not shrink the context to fit the device: UINT32_MAX, seen through a signed field.
        params.fit_params_min_ctx = -1
    return params


def set_program_defaults(params: Any) -> None:
    """What llama-server's own argument parser sets before it reads a flag, and CommonParams does not."""
    params.port = 8080
    params.n_parallel = -1
    params.default_template_kwargs = {"preserve_reasoning": "true"}
