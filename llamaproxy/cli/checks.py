"""What `llamaproxy doctor` looks at: one function for each part, which tells what is wrong and what to do.

Looks only. An engine is asked for its version, a port is bound for a moment, nothing else is started or written.
"""

import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from llamaproxy.backends import engine, orphans
from llamaproxy.backends.engine import Engine
from llamaproxy.cli.table import size
from llamaproxy.config import LISTENERS, Config
from llamaproxy.errors import EngineMissing, InvalidModelFile
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models import staging
from llamaproxy.models.estimate import files
from llamaproxy.models.gguf import read
from llamaproxy.models.scan import scan
from llamaproxy.statefile import state_directory
from llamaproxy.telemetry import gpu
from llamaproxy.telemetry.history import location

_VERSION_TIMEOUT = 60.0
"""Seconds: an engine may have to load the drivers of its devices first."""
_LEAST_FILES = 4096
"""Descriptors for some 2,000 streams."""
_FIRST_DAY = 1_735_689_600
"""2025-01-01 in seconds since the epoch: no clock that is right is before it."""
_LEAD = 120.0
"""Seconds by which files may come from the future, as on other machines' disks."""


class Level(StrEnum):
    """BROKEN keeps the gateway from doing what it was told, WARNING may."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """`remedy` is what to do, where there is something."""

    check: str
    level: Level
    message: str
    remedy: str | None = None


Findings = Iterator[Finding]


def engine_found(config: Config) -> Findings:
    """A gateway whose models are all served by others needs none."""
    needed = not config.models or any(model.path for model in config.models.values())
    try:
        found = engine.find(config.engine.binary)
    except EngineMissing as error:
        message, _, remedy = error.message.partition(": ")
        yield Finding("engine", Level.BROKEN if needed else Level.WARNING, message, remedy or engine.INSTALL)
        return
    works, said = engine_version(found)
    if works:
        yield Finding("engine", Level.OK, f"{found.kind}, {said}, {found.program[0]}")
    else:
        command = " ".join((*found.program, "--version"))
        told = f"{found.program[0]} does not tell its version: {said}"
        yield Finding("engine", Level.BROKEN, told, f"try `{command}`")


def engine_version(found: Engine) -> tuple[bool, str]:
    """Whether `--version` works, and the first line of what it prints; else why not, which is its last one."""
    try:
        done = subprocess.run(
            (*found.program, "--version"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode or not lines:
        return False, (lines or ["it prints nothing"])[-1][:200]
    return True, lines[0].removeprefix("version: ")[:100]


def models(config: Config) -> Findings:
    """Of files that there is one, and all of it; of commands that there is the program."""
    for name, model in config.models.items():
        yield _of_command(name, model.command[0]) if model.command else _of_files(name, model)
    if directory := config.catalog.models_dir:
        found = scan(Path(directory).expanduser())
        yield Finding("models", Level.OK, f"{directory}: {len(found.models)} models")
        for problem in found.problems:
            remedy = "take it away, or get it again"
            yield Finding("models", Level.WARNING, f"{directory}: {problem.entry}: {problem.reason}", remedy)
        for left in staging.unfinished(Path(directory).expanduser()):
            yield Finding("models", Level.OK, _of_download(left))


def _of_download(left: staging.Unfinished) -> str:
    days = max(0.0, time.time() - left.written_at) / 86400
    kept = f"removed after {staging.KEPT / 86400:.0f} days without"
    return f"{left.folder}: {size(left.size)} of a download, the last of it {days:.1f} days ago; {kept}"


def _of_command(name: str, program: str) -> Finding:
    if shutil.which(program):
        return Finding("models", Level.OK, f"{name}: {program}")
    remedy = f"install it, or write its whole path in models.{name}.command"
    return Finding("models", Level.BROKEN, f"{name}: the program {program} was not found", remedy)


def _of_files(name: str, model: ModelConfig) -> Finding:
    if model.url:
        return Finding("models", Level.OK, f"{name}: {model.url}, which is not asked")
    remedy = f"see to models.{name}.path and to who may read it, or get the file again"
    for path in files(model):
        try:
            if not read(path).complete:
                return Finding("models", Level.BROKEN, f"{name}: {path} is not complete", remedy)
        except (OSError, InvalidModelFile) as error:
            return Finding("models", Level.BROKEN, f"{name}: {error}", remedy)
    return Finding("models", Level.OK, f"{name}: {model.path}")


def ports(config: Config, is_gateway: Callable[[], bool]) -> Findings:
    """A gateway that runs has them; whether it does is asked only where one is taken."""
    listened = {key: getattr(config.server, key) for key in LISTENERS}
    wanted = {f"server.{key}": (config.server.host, port) for key, port in listened.items() if port is not None}
    wanted |= {f"models.{name}.port": ("127.0.0.1", m.port) for name, m in config.models.items() if m.port}
    for key, (host, port) in wanted.items():
        reason = _taken(host, port)
        if reason is None:
            yield Finding("ports", Level.OK, f"{key}: {host}:{port} is free")
        elif is_gateway():
            yield Finding("ports", Level.OK, f"{key}: {host}:{port} is taken, and a gateway runs")
        else:
            remedy = f"end what listens there (`ss -ltnp` shows it), or have another {key}"
            yield Finding("ports", Level.BROKEN, f"{key}: {host}:{port}: {reason}", remedy)


def _taken(host: str, port: int) -> str | None:
    """Why nobody could listen there."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        return error.strerror or str(error)
    return None


def gpus(config: Config) -> Findings:
    """None is a fault only where one is asked for."""
    seen: list[str] = []
    reasons: list[str] = []
    for look in (gpu.nvidia, gpu.amd):
        try:
            seen += [f"{found.vendor} {found.name}" for found in look()]
        except gpu.NoGpu as reason:
            reasons.append(str(reason))
    wanted = config.limits.vram_budgets or any(model.gpu_layers for model in config.models.values())
    if seen:
        yield Finding("gpu", Level.OK, ", ".join(seen))
    elif wanted:
        remedy = "install the driver, or take gpu_layers and vram_budgets out"
        yield Finding("gpu", Level.WARNING, f"none is seen: {'; '.join(reasons)}", remedy)
    else:
        yield Finding("gpu", Level.OK, f"none: {'; '.join(reasons)}")


def database(config: Config) -> Findings:
    """Intact, and writable; a file that is not there yet is made at the first start."""
    path = location(config.telemetry.database)
    if path is None:
        yield Finding("database", Level.OK, "off: rows are kept in memory only")
        return
    remedy = "see to its owner and mode, or have telemetry.database elsewhere"
    if path.exists():
        if not os.access(path, os.R_OK | os.W_OK):
            yield Finding("database", Level.BROKEN, f"{path} cannot be written", remedy)
        elif fault := _damage(path):
            said = "move it away: the gateway keeps it beside and begins a new one"
            yield Finding("database", Level.BROKEN, f"{path}: {fault}", said)
        else:
            yield Finding("database", Level.OK, f"{path} is intact")
    elif _is_usable(path.parent):
        yield Finding("database", Level.OK, f"{path} will be made")
    else:
        yield Finding("database", Level.BROKEN, f"{path} cannot be made", remedy)


def _damage(path: Path) -> str | None:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
            ((told,),) = connection.execute("PRAGMA quick_check(1)").fetchall()
    except sqlite3.Error as error:
        return str(error)
    return None if told == "ok" else str(told)


def folders(config: Config, file: Path | None) -> Findings:
    """Where the gateway keeps things, and that nobody else can read what is secret."""
    secret = config.keys or any(model.api_key for model in config.models.values())
    if file and secret and os.name == "posix" and stat.S_IMODE(file.stat().st_mode) & 0o077:
        yield Finding("folders", Level.WARNING, f"{file} has keys, and others can read it", f"chmod 600 {file}")
    for what, path in (("state", state_directory()), ("runtime", orphans.default_base())):
        if not _is_usable(path):
            yield Finding("folders", Level.BROKEN, f"{what}: {path} cannot be written", "see to its owner and mode")
        elif path.exists() and path.stat().st_mode & stat.S_IWOTH:
            yield Finding("folders", Level.BROKEN, f"{what}: anybody may write to {path}", f"chmod 700 {path}")
        else:
            yield Finding("folders", Level.OK, f"{what}: {path}")


def _is_usable(folder: Path) -> bool:
    """It can be written, or made where it is not there."""
    existing = next((place for place in (folder, *folder.absolute().parents) if place.exists()), Path("/"))
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def descriptors() -> Findings:
    """A stream takes two, one to the client and one to the engine."""
    try:
        import resource
    except ImportError:  # on Windows, which has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _LEAST_FILES:
        yield Finding("descriptors", Level.OK, f"{soft} open files")
        return
    way = f"`ulimit -n {hard}`" if hard != soft else "only root can raise it; for a container `--ulimit nofile=65536`"
    remedy = f"{way}; for a service LimitNOFILE, which `llamaproxy service install` sets"
    yield Finding("descriptors", Level.WARNING, f"{soft} open files are enough for {soft // 2} streams at most", remedy)


def clock(config: Config, now: float | None = None) -> Findings:
    """Expiry of keys, retention and certificates go by it."""
    now = time.time() if now is None else now
    path = location(config.telemetry.database)
    written = path.stat().st_mtime if path and path.exists() else 0.0
    remedy = "set the clock, and have it kept right by NTP"
    if now < _FIRST_DAY:
        yield Finding("clock", Level.BROKEN, f"it is {time.ctime(now)}, which is too early", remedy)
    elif written > now + _LEAD:
        yield Finding("clock", Level.WARNING, f"the database was written {written - now:.0f} s from now", remedy)
    else:
        yield Finding("clock", Level.OK, time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now)))
