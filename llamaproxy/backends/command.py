"""From a model and an address to the command line and environment of its engine process.

Pure: nothing is looked up on the machine. Processes get an argument list, never a shell, and an environment that
holds only what is named here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from llamaproxy import placeholders
from llamaproxy.config import EngineConfig
from llamaproxy.modelconfig import ModelConfig

# What an engine may need of the gateway's environment. LLAMA_ARG_* would set options behind our back, and
# LLAMA_SERVER_ROUTER_PORT would make it the child of a router.
_PASSED = re.compile(
    r"PATH|HOME|USER|LANG|LC_.*|TZ|TMPDIR|TEMP|TMP|SYSTEMROOT|LD_LIBRARY_PATH|DYLD_.*|SSL_CERT_.*"
    r"|CUDA_.*|NVIDIA_.*|HIP_.*|ROCR_.*|HSA_.*|GPU_.*|ONEAPI_.*|SYCL_.*|ZE_.*|VK_.*|GGML_.*|OMP_.*|KMP_.*|GOMP_.*"
)

# An idle slot that is cleared has nothing left to save. As a variable it does no harm to a llama-server that is too old
# for it, where the flag --no-cache-idle-slots would keep it from starting; and every flag of the user's wins over it.
_KEEP_SLOTS = {"LLAMA_ARG_CACHE_IDLE_SLOTS": "0"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where one backend listens: a Unix socket, loopback TCP guarded by a key of its own, or a `url` elsewhere."""

    socket: Path | None = None
    port: int | None = None
    key: str | None = field(default=None, repr=False)
    url: str | None = None

    def __str__(self) -> str:
        if self.url:
            return self.url
        return f"unix:{self.socket}" if self.socket else f"127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute. The key travels in the environment: other users of the machine can read arguments."""

    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)


def build_other(
    name: str, model: ModelConfig, engine: EngineConfig, address: Address, inherited: Mapping[str, str]
) -> Command:
    """The model's own command, which is to serve it as `name` at `address`."""
    values = {"name": name, "port": str(address.port), "socket": str(address.socket), "api_key": address.key or ""}
    environment = _environment(model, engine, address, inherited)
    environment |= {variable: placeholders.fill(value, values) for variable, value in model.env.items()}
    return Command(tuple(placeholders.fill(word, values) for word in model.command or ()), environment)


def build(
    program: tuple[str, ...],
    name: str,
    model: ModelConfig,
    engine: EngineConfig,
    address: Address,
    inherited: Mapping[str, str],
    slots: Path | None = None,
) -> Command:
    """The command that serves `model` as `name` at `address`; `program` is the engine's own first arguments.

    `slots` is the directory in which its slots may be saved.
    """
    assert model.path
    flags = [*program, "-m", model.path, "--alias", name, *_listen(address), *_typed(model), "--metrics"]
    if slots:
        flags += ["--slot-save-path", str(slots)]
    environment = _environment(model, engine, address, inherited, _KEEP_SLOTS if slots else {})
    return Command((*flags, *engine.args, *model.args), environment)


def _listen(address: Address) -> list[str]:
    return ["--host", str(address.socket)] if address.socket else ["--host", "127.0.0.1", "--port", str(address.port)]


def _typed(model: ModelConfig) -> list[str]:
    values = {
        "--mmproj": model.mmproj,
        "--ctx-size": model.ctx_size,
        "--batch-size": model.batch_size,
        "--threads": model.threads,
        "--gpu-layers": _gpu_layers(model.gpu_layers),
        "--parallel": model.parallel,
    }
    return [part for flag, value in values.items() if value is not None for part in (flag, str(value))]


def _gpu_layers(layers: int | None) -> str | int | None:
    return "all" if layers == -1 else layers


def _environment(
    model: ModelConfig,
    engine: EngineConfig,
    address: Address,
    inherited: Mapping[str, str],
    own: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    environment = {name: value for name, value in inherited.items() if _PASSED.fullmatch(name)}
    environment |= {**own, **engine.env, **model.env}
    if address.key:
        environment["LLAMA_API_KEY"] = address.key
    return environment
