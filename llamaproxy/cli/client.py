"""Talking to a running gateway from the command line.

Owns where it is found (`--url`, $LLAMAPROXY_URL, else the configuration), the key that is shown to it
($LLAMAPROXY_API_KEY), and what is said when it does not answer. One request, no retries.
"""

import argparse
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import orjson

from llamaproxy import configfile
from llamaproxy.cli import EXIT_CONFIGURATION, EXIT_FAILED, EXIT_UNAVAILABLE, complain
from llamaproxy.cli.table import harmless
from llamaproxy.errors import ConfigError

URL_VARIABLE = "LLAMAPROXY_URL"
KEY_VARIABLE = "LLAMAPROXY_API_KEY"
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen on that are none to connect to."""


class NoAnswer(Exception):
    """Nobody answers there, or not as a gateway does."""


class Refused(Exception):
    """The gateway said no, with this error code."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


def talk(work: Callable[[], int]) -> int:
    """The exit code of something that asks the gateway; what went wrong is told on stderr."""
    try:
        return work()
    except ConfigError as error:
        complain(error.message)
        return EXIT_CONFIGURATION
    except Refused as error:
        complain("\n".join(map(harmless, str(error).splitlines())))
        return EXIT_CONFIGURATION if error.code == ConfigError.code else EXIT_FAILED
    except NoAnswer as error:
        complain(harmless(str(error)))
        return EXIT_UNAVAILABLE


def get(arguments: argparse.Namespace, path: str, timeout: float) -> Any:
    return ask(arguments, "GET", path, timeout)


def post(arguments: argparse.Namespace, path: str, content: Any, timeout: float) -> Any:
    """Ask for a change, with JSON."""
    return ask(arguments, "POST", path, timeout, content)


def ask(arguments: argparse.Namespace, method: str, path: str, timeout: float, content: Any = None) -> Any:
    """The decoded answer, within `timeout` seconds. Raises NoAnswer, Refused, or ConfigError where no address is."""
    base = address(arguments)
    headers = {} if content is None else {"Content-Type": "application/json"}
    if key := os.environ.get(KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    try:
        body = None if content is None else orjson.dumps(content)
        request = urllib.request.Request(base + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return orjson.loads(response.read())
    except urllib.error.HTTPError as error:
        raise _refused(error) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise NoAnswer(f"no gateway answers at {base}: {reason}; `llamaproxy serve` starts one") from error


def address(arguments: argparse.Namespace) -> str:
    """The gateway's address, without a slash at its end. Raises ConfigError where the file is no good."""
    if given := arguments.url or os.environ.get(URL_VARIABLE):
        return str(given).rstrip("/")
    server = configfile.load(configfile.find_file(arguments.config)).server
    host = _ANYWHERE.get(server.host, server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{server.port}"


def _refused(error: urllib.error.HTTPError) -> Refused:
    try:
        told = orjson.loads(error.read())["error"]
        return Refused(str(told["message"]), str(told["code"]))
    except (OSError, ValueError, LookupError, TypeError):
        return Refused(f"the answer was {error.code} {error.reason}", "")
