"""`llamaproxy check-config`: is the configuration good, and what is effective?"""

import argparse
import re
from typing import Any

import orjson

from llamaproxy import configfile
from llamaproxy.backends import engine
from llamaproxy.cli import EXIT_CONFIGURATION, complain
from llamaproxy.config import Config
from llamaproxy.errors import ConfigError, EngineMissing
from llamaproxy.server.app import check

_SECRET = re.compile(r"key|token|secret|password", re.IGNORECASE)


def run(arguments: argparse.Namespace) -> int:
    """The effective configuration as JSON on stdout; what is wrong, or worth knowing, on stderr."""
    try:
        path = configfile.find_file(arguments.config)
        config = configfile.load(path)
        check(config)
    except ConfigError as error:
        complain(error.message)
        return EXIT_CONFIGURATION
    print(orjson.dumps(effective(config), option=orjson.OPT_INDENT_2).decode())
    complain(f"good: {path or 'no file, defaults and environment only'}")
    try:
        found = engine.find(config.engine.binary)
        complain(f"engine: {found.kind}, {' '.join(found.program)}")
    except EngineMissing as error:
        complain(f"engine: {error.message}")
    return 0


def effective(config: Config) -> dict[str, Any]:
    """Every value, secrets masked: those of environment variables that are named like one, and the keys' hashes."""
    values = config.model_dump(mode="json")
    for section in (values["engine"], *values["models"].values()):
        section["env"] = {name: "***" if _SECRET.search(name) else value for name, value in section["env"].items()}
    for key in values["keys"].values():
        key["sha256"] = key["sha256"][:6] + "..."
    return values
