"""`llamaproxy check-config`: is the configuration good, and what is effective?"""

import argparse
import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from llamaproxy import configfile
from llamaproxy.backends import engine
from llamaproxy.cli import EXIT_CONFIGURATION, complain
from llamaproxy.config import Config
from llamaproxy.errors import ConfigError, EngineMissing
from llamaproxy.server.gateway import check

_SECRET = re.compile(r"key|token|secret|passw|passphrase|credential|auth", re.IGNORECASE)
_SECRET_FLAG = re.compile(r"(-hft|--(?:[a-z-]+-)?(?:api-key|token|secret|password))(=.*)?", re.IGNORECASE | re.DOTALL)


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
    """Every value, secrets masked: variables and arguments that are named like one, and keys."""
    values = config.model_dump(mode="json")
    for section in (values["engine"], *values["models"].values()):
        section["env"] = {name: "***" if _SECRET.search(name) else value for name, value in section["env"].items()}
        section["args"] = list(_masked(section["args"]))
    for model in values["models"].values():
        model["api_key"] = model["api_key"] and "***"
        model["command"] = model["command"] and list(_masked(model["command"]))
    for key in values["keys"].values():
        key["sha256"] = key["sha256"][:6] + "..."
    return values


def _masked(args: Iterable[str]) -> Iterator[str]:
    """Where engine.allow_unsafe_args is set, a secret may stand in its flag's argument or in the next one."""
    hidden = False
    for argument in args:
        match = _SECRET_FLAG.fullmatch(argument)
        if match and match[2]:
            yield f"{match[1]}=***"
        else:
            yield "***" if hidden else argument
        hidden = bool(match and not match[2])
