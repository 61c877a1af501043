"""One line of the log: what is known of it, and how it is spelled for people and for programs.

Owns levels, bounds and escapes. A line may hold what clients and engines said, so nothing that a terminal would act on
or that would pass for a line of its own leaves this module. Keeps nothing: `logs` does.
"""

import logging
import re
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from llamaproxy import scope

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
ENGINE = "engine"
"""The source of what engines print."""
LONGEST_MESSAGE = 4096
LONGEST_CONTEXT = 16 * 1024
"""Characters; of a longer message the beginning is kept, of a longer traceback the end."""
_ENGINE_LEVEL = re.compile(r"[\d.:]{0,24} ?([DIWE]) ")
"""llama-server's own mark at the beginning of a line, after the time since its start."""
_ENGINE_LEVELS = {"D": logging.DEBUG, "I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR}
_INDENT = "\n    "

Redact = Callable[[str], str]


class LogEntry(NamedTuple):
    """`id` is the time in microseconds since the epoch, or one more than that of the entry before: the order of
    entries, and no two are the same. `level` is a number of `logging`. `context` is the traceback, where there is one.

    As it was said: not redacted before it leaves the process.
    """

    id: int
    level: int
    source: str
    message: str
    model: str | None = None
    request_id: str | None = None
    context: str | None = None

    def shown(self, redact: Redact) -> dict[str, Any]:
        """For programs; `timestamp` in seconds since the epoch."""
        return {
            "id": self.id,
            "timestamp": self.id / 1e6,
            "level": level_name(self.level),
            "source": self.source,
            "model": self.model,
            "request_id": self.request_id,
            "message": bounded(self.message, redact),
            "context": self.context and redact(escape(self.context, keep="\n\t")),
        }


def from_record(record: logging.LogRecord, id: int) -> LogEntry:
    """Whom it belongs to is said by the record, else by the scope in which it is made."""
    return LogEntry(
        id,
        record.levelno,
        record.name.removeprefix("llamaproxy."),
        record.getMessage()[: 2 * LONGEST_MESSAGE],
        getattr(record, "model", None) or scope.model.get(),
        getattr(record, "request_id", None) or scope.request_id.get(),
        _traceback(record),
    )


def from_engine(model: str, line: str, id: int) -> LogEntry:
    """A line without a mark is taken for information: libraries below llama-server have none."""
    mark = _ENGINE_LEVEL.match(line)
    return LogEntry(id, _ENGINE_LEVELS[mark[1]] if mark else logging.INFO, ENGINE, line, model)


def level_name(level: int) -> str:
    """The name of the level that a number stands for or lies above."""
    return next((name for name, least in reversed(LEVELS.items()) if level >= least), "debug")


def escape(text: str, keep: str = "\t") -> str:
    """Every character that cannot be printed, but for those to keep, as Python spells it."""
    if text.isprintable():
        return text
    return "".join(
        character if character in keep or character.isprintable() else repr(character)[1:-1] for character in text
    )


def bounded(message: str, redact: Redact) -> str:
    """A message without secrets and escapes, and not longer than a line should be."""
    # What will be cut off is looked at as well: the beginning of a secret does not look like one.
    text = escape(redact(message), keep="\n\t")
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"


class TextFormatter(logging.Formatter):
    """For people. Further lines of a message are indented: none of them passes for a line of its own."""

    def __init__(self, redact: Redact) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        entry = from_record(record, 0)
        at = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(record.created))},{record.msecs:03.0f}"
        request = f" [{entry.request_id}]" if entry.request_id else ""
        text = f"{at} {record.levelname:<7} {record.name}:{request} {bounded(entry.message, self._redact)}"
        if entry.context:
            text += f"\n{self._redact(escape(entry.context, keep=chr(10)))}"
        return text.replace("\n", _INDENT)


class JsonFormatter(logging.Formatter):
    """For programs: one JSON object a line, with the time as RFC 3339 has it, and nothing that is unknown."""

    def __init__(self, redact: Redact) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        shown = from_record(record, int(record.created * 1e6)).shown(self._redact)
        at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{record.msecs:03.0f}Z"
        line = {"time": at, **{key: value for key, value in shown.items() if key not in ("id", "timestamp") and value}}
        return orjson.dumps(line).decode()


def set_up(level: str, format: str, redact: Redact, handler: logging.Handler | None = None) -> None:
    """The process's log, on stderr or wherever `handler` writes.

    Libraries tell their warnings only: at lower levels they tell values of rows.
    """
    handler = handler or logging.StreamHandler()
    handler.setFormatter(_formatter(format, redact))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    set_level(level)
    # Parser errors of hostile clients are answered, and are not worth a traceback each.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)


def set_level(level: str) -> None:
    """The least severity that is logged, from now on."""
    logging.getLogger("llamaproxy").setLevel(LEVELS[level])


def set_format(format: str, redact: Redact) -> None:
    """How lines are spelled from now on, where `set_up` said so before."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, TextFormatter | JsonFormatter):
            handler.setFormatter(_formatter(format, redact))


def level_in_force() -> str:
    return level_name(logging.getLogger("llamaproxy").getEffectiveLevel())


def _formatter(format: str, redact: Redact) -> logging.Formatter:
    return JsonFormatter(redact) if format == "json" else TextFormatter(redact)


def _traceback(record: logging.LogRecord) -> str | None:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return None
    text = "".join(traceback.format_exception(error)).rstrip()
    return text if len(text) <= LONGEST_CONTEXT else f"…{text[-LONGEST_CONTEXT:]}"
