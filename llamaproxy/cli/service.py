"""`llamaproxy service`: have systemd (Linux) or launchd (macOS) run the gateway for this user.

Owns where their files lie and what is asked of them. Only files of this name are written or taken away, and only this
user's manager is asked.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llamaproxy import configfile, document, variables
from llamaproxy.cli import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_NOT_FOUND, complain, terminal, units
from llamaproxy.cli.table import harmless
from llamaproxy.config import Config
from llamaproxy.errors import ConfigError
from llamaproxy.server.gateway import check

_PATIENCE = 120.0
"""Seconds for a manager to do what it is asked: it may wait for the gateway to be ready, or to end."""
_AFTERWARDS = 30.0
"""Seconds beyond the configured times, for what a shutdown does besides."""
_RUNNING = re.compile(r"^(?:ActiveState=active|\s*state = running)$", re.MULTILINE)
"""systemd's words, and launchd's."""
Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manager:
    """Who runs services here: the file that it reads, and what it is asked."""

    name: str
    file: Path
    start: tuple[Command, ...]
    stop: tuple[Command, ...]
    forget: tuple[Command, ...]
    ask: Command


class Unmanaged(Exception):
    """A manager that is not there, or did not do it."""


def run(arguments: argparse.Namespace) -> int:
    """stdout is data: what is written, or what the manager says."""
    actions = {"install": _install, "uninstall": _uninstall, "status": _status}
    try:
        return actions[arguments.action](arguments, manager())
    except ConfigError as error:
        complain(error.message)
        return EXIT_CONFIGURATION
    except Unmanaged as error:
        complain(str(error))
        return EXIT_FAILED


def manager(platform: str = sys.platform, environ: Mapping[str, str] = os.environ) -> Manager:
    """Raises Unmanaged."""
    home = Path.home()
    if platform == "darwin":
        file = home / "Library" / "LaunchAgents" / f"{units.NAME}.plist"
        domain = f"gui/{os.getuid()}"
        return Manager(
            "launchd",
            file,
            start=(("launchctl", "bootstrap", domain, str(file)),),
            stop=(("launchctl", "bootout", f"{domain}/{units.NAME}"),),
            forget=(),
            ask=("launchctl", "print", f"{domain}/{units.NAME}"),
        )
    if platform != "linux":
        raise Unmanaged(f"services are for systemd and launchd; on {platform} have `llamaproxy serve` started yourself")
    unit, ask = f"{units.NAME}.service", ("systemctl", "--user")
    return Manager(
        "systemd",
        Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "systemd" / "user" / unit,
        start=((*ask, "daemon-reload"), (*ask, "enable", unit), (*ask, "restart", unit)),
        stop=((*ask, "disable", "--now", unit),),
        forget=((*ask, "daemon-reload"),),
        ask=(*ask, "show", unit, "--property=ActiveState,SubState,MainPID,StatusText,UnitFileState"),
    )


def service(explicit: Path | None) -> units.Service:
    """What shall run, from a configuration that can be served. Raises ConfigError."""
    file = document.find_file(explicit)
    config = configfile.load(file)
    check(config)
    path = file.absolute() if file else None
    command = [sys.executable, "-P", "-m", "llamaproxy", "serve", *(["--config", str(path)] if path else [])]
    # Without the shell's PATH neither manager finds a llama-server that the shell does.
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    return units.Service(command, path.parent if path else Path.home(), environment, _stop_timeout(config))


def _stop_timeout(config: Config) -> float:
    """Requests end, then slots are saved, then engines end."""
    return config.server.drain_timeout + config.kv.save_timeout + config.engine.stop_timeout + _AFTERWARDS


def _install(arguments: argparse.Namespace, manager: Manager) -> int:
    wanted = service(arguments.config)
    content = _content(wanted, manager)
    # launchd has to forget an agent before it learns of it anew.
    before = manager.stop if manager.name == "launchd" and manager.file.exists() else ()
    if arguments.dry_run:
        print(f"# {manager.file}\n{content.decode()}", end="")
        _print((*before, *manager.start))
        return 0
    manager.file.parent.mkdir(parents=True, exist_ok=True)
    manager.file.write_bytes(content)
    complain(f"wrote {manager.file}")
    _ask(before, tolerant=True)
    _ask(manager.start)
    if left := [name for name in os.environ if name.startswith(variables.PREFIX)]:
        complain(f"not taken over: {', '.join(sorted(left))}; a service reads its configuration file only")
    if manager.name == "systemd":
        complain("it runs while you are logged in; `loginctl enable-linger` has it run from boot on")
    return 0


def _content(wanted: units.Service, manager: Manager) -> bytes:
    if manager.name == "systemd":
        return units.systemd_unit(wanted).encode()
    return units.launchd_plist(wanted, Path.home() / "Library" / "Logs" / f"{units.NAME}.log")


def _uninstall(arguments: argparse.Namespace, manager: Manager) -> int:
    if not manager.file.exists():
        complain(f"{manager.file} is not there: no service is installed")
        return EXIT_NOT_FOUND
    if arguments.dry_run:
        _print((*manager.stop, ("rm", str(manager.file)), *manager.forget))
        return 0
    _ask(manager.stop, tolerant=True)
    manager.file.unlink()
    complain(f"removed {manager.file}; configuration and database stay")
    _ask(manager.forget, tolerant=True)
    return 0


def _status(arguments: argparse.Namespace, manager: Manager) -> int:
    """0 where it is installed and the manager knows of it; whether it runs is in what that says."""
    installed = manager.file.exists()
    told = _run(manager.ask) if installed else ""
    if arguments.json:
        known = {"manager": manager.name, "file": str(manager.file), "installed": installed}
        terminal.print_json({**known, "running": _RUNNING.search(told) is not None})
    elif installed:
        print(f"File={harmless(str(manager.file))}")
        print("\n".join(map(harmless, told.splitlines())))
    if not installed:
        complain(f"{manager.file} is not there: no service is installed; `llamaproxy service install` does it")
    return 0 if installed else EXIT_NOT_FOUND


def _ask(commands: Sequence[Command], tolerant: bool = False) -> None:
    for command in commands:
        try:
            _run(command)
        except Unmanaged as error:
            if not tolerant:
                raise
            complain(str(error))


def _run(command: Command) -> str:
    """What it prints. Raises Unmanaged."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except FileNotFoundError as error:
        raise Unmanaged(f"{command[0]} is not here: have `llamaproxy serve` started another way") from error
    except subprocess.TimeoutExpired as error:
        raise Unmanaged(f"{shlex.join(command)}: not done within {_PATIENCE:.0f} s") from error
    if done.returncode:
        raise Unmanaged(f"{shlex.join(command)}: {(done.stderr or done.stdout).strip() or f'exit {done.returncode}'}")
    return done.stdout


def _print(commands: Sequence[Command]) -> None:
    print("\n".join(f"# {shlex.join(command)}" for command in commands))
