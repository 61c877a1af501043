"""What every client is asked, and how it is told. Runs in the client's own environment: standard library only.

A check is a function that raises where something does not work, and returns a remark or nothing. Skip says that the
client cannot do it with any server. One JSON line for each; the first tells the client's version.
"""

import json
import os
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

URL, MODEL, VECTORS = (os.environ.get(f"CLIENTS_{name}", "") for name in ("URL", "MODEL", "VECTORS"))
KEY = os.environ.get("CLIENTS_KEY", "")
BASE = f"{URL}/v1"
OLLAMA = os.environ.get("CLIENTS_OLLAMA", "")
"""The address for Ollama's clients."""
WORDS = "Say hello."
SHORT, SHAPED, LONG = 8, 40, 2000
"""Tokens: of an answer, of a small JSON object, and of an answer that nobody reads to its end."""
NOBODY = "no-such-model"
WRONG_KEY = "sk-wrong"
CHECKS = ("models", "chat", "stream", "tools", "embeddings", "errors", "cancel")
_PATIENCE = 30.0

Check = Callable[[], str | None]

WEATHER: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
}
"""Of a tool `weather`."""


class Skip(Exception):
    """The client has no such thing."""


def run(package: str, **checks: Check) -> None:
    """Those of CHECKS that are given; one that is not is skipped."""
    _tell(version=version(package))
    for name in CHECKS:
        _tell(check=name, **_outcome(checks.get(name, _nothing)))


def _outcome(check: Check) -> dict[str, str]:
    try:
        return {"result": "yes", "remark": check() or ""}
    except Skip as skip:
        return {"result": "-", "remark": str(skip)}
    except Exception as error:  # whatever a client does is what is reported
        traceback.print_exc(file=sys.stderr)
        return {"result": "NO", "remark": f"{type(error).__name__}: {str(error)[:300]}"}


def _nothing() -> None:
    raise Skip


def _tell(**fields: str) -> None:
    print(json.dumps(fields), flush=True)


def raised(expected: type[BaseException], action: Callable[[], object]) -> BaseException:
    """What the action raises, which must be of this class."""
    try:
        action()
    except expected as error:
        return error
    raise AssertionError(f"{expected.__name__} was not raised")


def called(names: list[str]) -> str:
    """Tools were accepted; what is called, if anything, is one of them. The bundled model seldom calls any."""
    assert set(names) <= {"weather"}, names
    return "called" if names else "accepted, not called"


def several(pieces: list[Any]) -> None:
    """A stream comes in pieces."""
    assert len(pieces) > 1, pieces


def abandoned() -> str:
    """Wait for the gateway to say that the client of its newest finished request has left."""
    end = time.monotonic() + _PATIENCE
    while (row := _newest())["state"] == "in_flight":
        assert time.monotonic() < end, "the gateway goes on with it"
        time.sleep(0.1)
    assert row["state"] == "client_abort", row["state"]
    return f"after {row['completion_tokens']} tokens"


def _newest() -> dict[str, Any]:
    request = urllib.request.Request(f"{URL}/api/requests?limit=1", headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=_PATIENCE) as response:
        row: dict[str, Any] = json.load(response)["requests"][0]
    return row
