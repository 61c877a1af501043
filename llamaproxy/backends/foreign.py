"""Backends that the gateway's engine does not serve: a command of the operator's own, or a server elsewhere.

Owns what each of them needs before it can be started. Looks, and starts nothing.
"""

import os
import shutil
from collections.abc import Mapping

from llamaproxy.backends import command
from llamaproxy.backends.command import Address
from llamaproxy.backends.life import Life
from llamaproxy.backends.orphans import UNIX_SOCKETS, RunDirectory
from llamaproxy.backends.ports import free_port
from llamaproxy.backends.remote import Remote
from llamaproxy.backends.spawn import Spawn
from llamaproxy.config import EngineConfig
from llamaproxy.errors import ModelStartFailed
from llamaproxy.modelconfig import ModelConfig


def check(name: str, model: ModelConfig, settings: EngineConfig, inherited: Mapping[str, str]) -> None:
    """Raises ModelStartFailed where it is plain that the model's command cannot be executed."""
    if not model.command:
        return
    if not (model.port or model.needs_port or UNIX_SOCKETS):
        raise ModelStartFailed(f"{name}: there are no Unix sockets here: its command needs a port")
    search = {**inherited, **settings.env, **model.env}.get("PATH")
    if fault := _program_fault(model.command[0], search):
        raise ModelStartFailed(f"{name}: the program {model.command[0]} {fault}")


def prepare(
    name: str,
    number: int,
    model: ModelConfig,
    settings: EngineConfig,
    run: RunDirectory,
    inherited: Mapping[str, str],
) -> Life:
    """Spawn `number` of a model with `command` or `url`, ready to run. Raises OSError where no port is free."""
    if model.url:
        key = model.api_key.get_secret_value() if model.api_key else None
        return Remote(name, number, Address(url=model.url, key=key), model.health_path, model.health_interval)
    key = os.urandom(20).hex()
    if model.port or model.needs_port:
        address = Address(port=model.port or free_port(), key=key)
    else:
        address = Address(socket=run.socket(name, number), key=key)
    built = command.build_other(name, model, settings, address, inherited)
    return Spawn(name, number, address, built, settings, run, model.health_path or "/health")


def _program_fault(program: str, search: str | None) -> str | None:
    if shutil.which(program, path=search):
        return None
    if not os.path.dirname(program):
        return "is not on PATH"
    return "is not executable" if os.path.isfile(program) else "does not exist"
