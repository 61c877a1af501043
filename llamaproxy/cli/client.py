"""Talking to a running gateway from the command line.

Owns where it is found (`--url`, $LLAMAPROXY_URL, else the configuration), the key that is shown to it
($LLAMAPROXY_API_KEY, or the file that $LLAMAPROXY_API_KEY_FILE names), and what is said when it does not answer. One
request, no retries, no proxy of the environment.
Light: most of the time that such a verb takes is spent on its imports.
"""

import argparse
import http.client
import json
import os
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from llamaproxy import document, secretfiles
from llamaproxy.cli import (
    EXIT_CONFIGURATION,
    EXIT_CONFLICT,
    EXIT_DENIED,
    EXIT_FAILED,
    EXIT_NOT_FOUND,
    EXIT_TIMEOUT,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    complain,
)
from llamaproxy.errors import ConfigError

URL_VARIABLE = "LLAMAPROXY_URL"
KEY_VARIABLE = "LLAMAPROXY_API_KEY"
HOST, PORT = "127.0.0.1", 8080
"""Defaults of `server.host` and `server.port`: the class that has them is slow to import."""
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen on that are none to connect to."""
_CODES = {
    400: EXIT_USAGE,
    401: EXIT_DENIED,
    403: EXIT_DENIED,
    404: EXIT_NOT_FOUND,
    408: EXIT_TIMEOUT,
    409: EXIT_CONFLICT,
    504: EXIT_TIMEOUT,
}
_LARGEST_ANSWER = 256 * 1024**2
"""Bytes."""


class NoAnswer(Exception):
    """Nobody answers there, or not as a gateway does."""

    exit_code = EXIT_UNAVAILABLE


class TooLate(NoAnswer):
    """Somebody is there, who did not answer in time."""

    exit_code = EXIT_TIMEOUT


class Refused(Exception):
    """The gateway said no, with this error code and status."""

    def __init__(self, message: str, code: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.exit_code = EXIT_CONFIGURATION if code == ConfigError.code else _CODES.get(status, EXIT_FAILED)


def talk(work: Callable[[], int]) -> int:
    """The exit code of something that asks the gateway; what went wrong is told on stderr."""
    try:
        return work()
    except ConfigError as error:
        complain(error.message)
        return EXIT_CONFIGURATION
    except (Refused, NoAnswer) as error:
        return tell(error)


def tell(error: Refused | NoAnswer) -> int:
    """On stderr; returns the exit code."""
    complain(str(error))
    if error.exit_code == EXIT_DENIED:
        complain(f"${KEY_VARIABLE} is the key that is shown; one with admin = true may do everything")
    return error.exit_code


def get(arguments: argparse.Namespace, path: str, timeout: float) -> Any:
    return ask(arguments, "GET", path, timeout)


def post(arguments: argparse.Namespace, path: str, content: Any, timeout: float) -> Any:
    """Ask for a change, with JSON."""
    return ask(arguments, "POST", path, timeout, content)


def ask(arguments: argparse.Namespace, method: str, path: str, timeout: float, content: Any = None) -> Any:
    """The decoded answer; `timeout` in seconds. Raises NoAnswer, Refused, or ConfigError where no address is."""
    base = address(arguments)
    body = None if content is None else json.dumps(content).encode()
    try:
        response, answer = _exchange(base, method, path, body, timeout)
        if response.status >= 300:
            raise _refused(response, answer)
        return json.loads(answer)
    except TimeoutError as error:
        raise TooLate(f"the gateway at {base} did not answer within {timeout:.0f} s") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or error
        raise NoAnswer(f"no gateway answers at {base}: {reason}; `llamaproxy serve` starts one") from error


def address(arguments: argparse.Namespace) -> str:
    """The gateway's address, without a slash at its end. Raises Refused where it is none, and ConfigError where the
    file is no good."""
    if given := arguments.url or os.environ.get(URL_VARIABLE):
        return check_address(str(given))
    host, port = _configured(arguments, "host", HOST), _configured(arguments, "port", PORT)
    if str(port) == "0":
        raise ConfigError("server.port is 0, so that only the gateway knows its port: name its address with --url")
    host = _ANYWHERE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def check_address(url: str) -> str:
    """The same, without a slash at its end. Raises Refused."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise Refused(f"{url[:200]}: an address looks like http://127.0.0.1:8080", "", 400)
    return url.rstrip("/")


def key() -> str | None:
    """What is shown to the gateway. Raises ConfigError, which holds nothing of it."""
    shown = secretfiles.secret(os.environ, KEY_VARIABLE)
    if shown and not (shown.isascii() and shown.isprintable() and " " not in shown):
        raise ConfigError(f"{KEY_VARIABLE}: must be printable ASCII without blanks")
    return shown


def _configured(arguments: argparse.Namespace, key: str, default: Any) -> Any:
    """A value of [server]: from the environment, else from the file. Whether it is good is the gateway's to say."""
    if told := os.environ.get(f"LLAMAPROXY_SERVER__{key.upper()}"):
        return told
    path = document.find_file(arguments.config)
    section = document.read(path).get("server", {}) if path else {}
    value = section.get(key, default) if isinstance(section, dict) else None
    if type(value) is not type(default):
        raise ConfigError(f"server.{key}: cannot be used as an address; `llamaproxy check-config` says more")
    return value


def _exchange(
    base: str, method: str, path: str, body: bytes | None, timeout: float
) -> tuple[http.client.HTTPResponse, bytes]:
    parts = urlsplit(base)
    assert parts.hostname
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {} if body is None else {"Content-Type": "application/json"}
    if shown := key():
        headers["Authorization"] = f"Bearer {shown}"
    connection = kind(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request(method, parts.path + path, body, headers)
        with connection.getresponse() as response:
            answer = response.read(_LARGEST_ANSWER + 1)
    finally:
        connection.close()
    if len(answer) > _LARGEST_ANSWER:
        raise ValueError("its answer has no end")
    return response, answer


def _refused(response: http.client.HTTPResponse, answer: bytes) -> Refused:
    try:
        told = json.loads(answer)["error"]
        return Refused(str(told["message"]), str(told["code"]), response.status)
    except (ValueError, LookupError, TypeError):
        return Refused(f"the answer was {response.status} {response.reason}", "", response.status)
