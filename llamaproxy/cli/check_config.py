"""`llamaproxy check-config`: is the configuration good, and what is effective?"""

import argparse
from pathlib import Path
from typing import Any

import orjson

from llamaproxy import configfile, document
from llamaproxy.backends import engine
from llamaproxy.cli import EXIT_CONFIGURATION, complain, terminal
from llamaproxy.config import Config
from llamaproxy.effective import effective
from llamaproxy.errors import ConfigError, EngineMissing
from llamaproxy.server.gateway import check


def run(arguments: argparse.Namespace) -> int:
    """The effective configuration as JSON on stdout; what is wrong, or worth knowing, on stderr. With `--json` all of
    it is one document."""
    try:
        path = document.find_file(arguments.config)
        config = configfile.load(path)
        check(config)
    except ConfigError as error:
        if arguments.json:
            terminal.print_json({"ok": False, "faults": error.message.splitlines()})
        complain(error.message)
        return EXIT_CONFIGURATION
    if arguments.json:
        terminal.print_json({"ok": True, "faults": [], **_document(path, config)})
        return 0
    print(orjson.dumps(effective(config), option=orjson.OPT_INDENT_2).decode())
    complain(f"good: {path or 'no file, defaults and environment only'}")
    complain(f"engine: {_engine(config)}")
    return 0


def _document(path: Path | None, config: Config) -> dict[str, Any]:
    return {"file": path and str(path), "engine": _engine(config), "config": effective(config)}


def _engine(config: Config) -> str:
    """Kind and program, or why there is none: a gateway without an engine still runs."""
    try:
        found = engine.find(config.engine.binary)
    except EngineMissing as error:
        return error.message
    return f"{found.kind}, {' '.join(found.program)}"
