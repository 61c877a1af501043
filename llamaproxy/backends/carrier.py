"""Which models carry their slots over a swap, and under which key.

Owns the way from configuration to a `Carry`: switches, arguments that make it pointless, and the key, which stands
for everything that must be the same for a saved slot to fit: model files, arguments and engine. A directory that
cannot be used is said once, and then nothing is carried.
"""

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from importlib import metadata
from pathlib import Path
from typing import Any

import platformdirs

from llamaproxy.backends.engine import Engine
from llamaproxy.backends.slot_files import SlotFiles
from llamaproxy.backends.slots import Carry, Counts
from llamaproxy.config import EngineConfig, KvConfig
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.tasks import spawn

log = logging.getLogger(__name__)

_NOT_CONFIGURED = "switched off in the configuration"
_NOT_OURS = "what another server keeps is its own business"
_KEEPS_NOTHING = "an engine for embeddings keeps no conversation"
_POINTLESS = {
    **dict.fromkeys(("--embedding", "--embeddings", "--rerank", "--reranking"), _KEEPS_NOTHING),
    "--slot-save-path": "the model's arguments name a directory of their own",
    "--no-cache-prompt": "the engine is told to reuse nothing",
    "--sleep-idle-seconds": "an engine that sleeps would be woken to save what it has forgotten",
}
# The other typed settings change how fast something is computed, not what is kept of it.
_TYPED = {"ctx_size", "gpu_layers", "parallel"}


class Carrier:
    """All models' slots."""

    def __init__(self, settings: KvConfig, engine: EngineConfig) -> None:
        self._carries: dict[str, Carry] = {}
        self.counts = Counts()
        self._set_up(settings, engine)

    def reconfigure(self, settings: KvConfig, engine: EngineConfig, removed: Iterable[str]) -> None:
        """These are the rules for processes that are started from now on; what belongs to removed models is deleted."""
        changed = settings != self._settings
        self._engine = engine
        if changed:
            self._carries.clear()
            self._set_up(settings, engine)
        for name in removed:
            spawn(asyncio.to_thread(self.forget, name), name=f"forget-slots-{name}")

    def forget(self, name: str) -> None:
        """Remove everything of a model that is no more. Takes as long as the disk does.

        Its process may still be answering somebody; what that one holds at its end is not kept either.
        """
        if carry := self._carries.pop(name, None):
            carry.off = "the model was removed"
        if self._files:
            self._files.forget(_owner(name))

    def prepare(self, name: str, model: ModelConfig, engine: Engine) -> Carry | None:
        """What the next process of a model shall carry; None where there is nothing to."""
        if not self._files or self._why_not(model):
            return None
        try:
            key = f"{_owner(name)}{_hash(_identity(model, self._engine, engine))}"
        except (OSError, metadata.PackageNotFoundError) as error:
            log.warning("%s: KV is not carried over: %s", name, error)
            return None
        try:
            if (carry := self._carries.get(name)) is None or carry.key != key:
                carry = self._carries[name] = Carry(name, key, self._files, self._settings, self.counts)
        except OSError as error:
            self._give_up(error)
            return None
        return None if carry.off else carry

    def describe(self, name: str, model: ModelConfig) -> dict[str, Any]:
        """For people: whether slots are carried, why not, and the tokens of the last save and the last restore."""
        carry = self._carries.get(name)
        reason = self._why_not(model) or (carry.off if carry else None)
        return {
            "carry": reason is None,
            "reason": reason,
            "saved_tokens": carry.saved_tokens if carry else 0,
            "restored_tokens": carry.restored_tokens if carry else 0,
        }

    def _set_up(self, settings: KvConfig, engine: EngineConfig) -> None:
        self._settings = settings
        self._engine = engine
        self._off = "" if settings.carry else _NOT_CONFIGURED
        self._files = self._open() if settings.carry else None

    def _open(self) -> SlotFiles | None:
        directory = self._settings.directory
        path = Path(directory).expanduser() if directory else platformdirs.user_cache_path("llamaproxy") / "kv"
        try:
            files = SlotFiles(path, self._settings.cache_bytes)
            files.tidy()
        except OSError as error:
            self._give_up(error)
            return None
        return files

    def _give_up(self, error: OSError) -> None:
        self._off = f"the directory for slots cannot be used: {error}"
        self._files = None
        log.warning("KV is not carried over swaps: %s", self._off)

    def _why_not(self, model: ModelConfig) -> str | None:
        if self._off:
            return self._off
        if model.path is None:
            return _NOT_OURS
        if not model.kv_carry:
            return _NOT_CONFIGURED
        return next(_pointless((*self._engine.args, *model.args)), None)


def _pointless(args: tuple[str, ...]) -> Iterator[str]:
    for argument in args:
        flag = argument.split("=", 1)[0]
        if reason := _POINTLESS.get(flag.replace("_", "-") if flag.startswith("--") else flag):
            yield reason


def _owner(name: str) -> str:
    """The beginning of all keys of a model; a model's name has characters that a file's may not."""
    return f"{_hash(name)}-"


def _hash(value: Any) -> str:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _identity(model: ModelConfig, settings: EngineConfig, engine: Engine) -> Mapping[str, Any]:
    """Raises OSError where a file cannot be looked at, PackageNotFoundError where the engine has no version."""
    return {
        "files": [_version(path) for path in (model.path, model.mmproj) if path],
        "settings": model.model_dump(include=_TYPED),
        "args": [*settings.args, *model.args],
        "env": {**settings.env, **model.env},
        "engine": metadata.version("xllamacpp") if engine.kind == "embedded" else _version(engine.program[0]),
    }


def _version(path: str) -> tuple[str, int, int]:
    status = Path(path).stat()
    return str(Path(path).absolute()), status.st_size, status.st_mtime_ns
