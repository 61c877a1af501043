"""What service managers read: a systemd user unit, a launchd agent.

Pure: from what shall run to the text. Every path in it is absolute, and spelled so that it means itself.
"""

import plistlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from llamaproxy.errors import ConfigError

NAME = "llamaproxy"
WATCHDOG = 60
"""Seconds without a sign of life after which systemd starts the gateway anew."""
_OPEN_FILES = 65536
"""Each stream takes two descriptors; macOS gives 256 unless asked."""
_NOT_IN_A_PROGRAM = re.compile(r"""['"\\]""")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Service:
    """`stop_timeout`: seconds that requests and engines are given to end."""

    command: Sequence[str]
    directory: PurePath
    environment: Mapping[str, str]
    stop_timeout: float


def systemd_unit(service: Service) -> str:
    """Exit codes of wrong use and of a bad configuration are not tried again. Raises ConfigError.

    Devices are not private: GPUs are devices. The gateway's own TERM goes to it alone: it ends its engines itself.
    """
    program, *arguments = service.command
    if _NOT_IN_A_PROGRAM.search(program):
        raise ConfigError(f"{program}: systemd starts no program with a quote or backslash in its path")
    command = " ".join([_quoted(program), *(_quoted(argument).replace("$", "$$") for argument in arguments)])
    environment = "".join(f"Environment={_quoted(f'{name}={value}')}\n" for name, value in service.environment.items())
    return f"""\
[Unit]
Description=llamaproxy: one OpenAI-compatible address in front of llama-server
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
WorkingDirectory={_specified(str(service.directory))}
{environment}WatchdogSec={WATCHDOG}
Restart=on-failure
RestartSec=2
RestartPreventExitStatus=2 78
KillMode=mixed
TimeoutStartSec=300
TimeoutStopSec={service.stop_timeout:.0f}
LimitNOFILE={_OPEN_FILES}
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy=default.target
"""


def launchd_plist(service: Service, log: PurePath) -> bytes:
    """`log` gets what the gateway prints."""
    limits = {"NumberOfFiles": _OPEN_FILES}
    return plistlib.dumps(
        {
            "Label": NAME,
            "ProgramArguments": list(service.command),
            "WorkingDirectory": str(service.directory),
            "EnvironmentVariables": dict(service.environment),
            "RunAtLoad": True,
            "KeepAlive": True,
            "ExitTimeOut": round(service.stop_timeout),
            "ProcessType": "Interactive",
            "SoftResourceLimits": limits,
            "HardResourceLimits": limits,
            "StandardOutPath": str(log),
            "StandardErrorPath": str(log),
            "Umask": 0o077,
        }
    )


def _quoted(word: str) -> str:
    """One word of a command line. Source: systemd.service(5), "Command lines"; systemd.syntax(7), "Quoting"."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{_specified(escaped)}"'


def _specified(text: str) -> str:
    """Without specifiers. Source: systemd.unit(5), "Specifiers"."""
    if _UNPRINTABLE.search(text):
        raise ConfigError(f"{ascii(text)[:200]}: a service can have no control character in a path or variable")
    return text.replace("%", "%%")
