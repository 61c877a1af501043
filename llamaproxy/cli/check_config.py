"""`llamaproxy check-config`: is the configuration good, and what is effective?"""

import argparse

import orjson

from llamaproxy import configfile, document
from llamaproxy.backends import engine
from llamaproxy.cli import EXIT_CONFIGURATION, complain
from llamaproxy.effective import effective
from llamaproxy.errors import ConfigError, EngineMissing
from llamaproxy.server.gateway import check


def run(arguments: argparse.Namespace) -> int:
    """The effective configuration as JSON on stdout; what is wrong, or worth knowing, on stderr."""
    try:
        path = document.find_file(arguments.config)
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
