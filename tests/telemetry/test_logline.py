"""llamaproxy.telemetry.logline: what a line tells, and that nothing in it does more than be read."""

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from llamaproxy import scope
from llamaproxy.telemetry import logline
from llamaproxy.telemetry.logline import JsonFormatter, LogEntry, TextFormatter, escape, from_engine, from_record
from llamaproxy.telemetry.redaction import MASK, Redaction

HOSTILE = (
    "\x1b[31mred\x1b[0m \x07 \x9b1m \u202eevil \u2028 \udc80\r\n2026-01-01 00:00:00,000 ERROR   llamaproxy: forged"
)
redact = Redaction().redact


def record(message: str, *values: object, level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    made = logging.LogRecord("llamaproxy.backends.pool", level, "file", 1, message, values, None)
    made.created, made.msecs = 1_000_000_000.25, 250.0
    made.__dict__ |= extra
    return made


def failed(text: str) -> logging.LogRecord:
    made = record("it failed")
    try:
        raise ValueError(text)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


@pytest.fixture
def levels() -> Iterator[None]:
    """Those of the process, as they were."""
    loggers = {name: logging.getLogger(name) for name in ("", "llamaproxy", "aiohttp.server")}
    before = {name: logger.level for name, logger in loggers.items()}
    handlers = list(loggers[""].handlers)
    yield
    loggers[""].handlers[:] = handlers
    for name, logger in loggers.items():
        logger.setLevel(before[name])


def test_text_is_for_people() -> None:
    line = TextFormatter(redact).format(record("%s: ready", "m"))
    assert line.endswith(",250 INFO    llamaproxy.backends.pool: m: ready")


def test_json_is_for_programs() -> None:
    line = JsonFormatter(redact).format(record("%s: ready", "m", model="m"))
    assert json.loads(line) == {
        "time": "2001-09-09T01:46:40.250Z",
        "level": "info",
        "source": "backends.pool",
        "model": "m",
        "message": "m: ready",
    }


@pytest.mark.parametrize("format", [TextFormatter, JsonFormatter])
def test_line_of_a_request_has_its_id(format: type[TextFormatter | JsonFormatter]) -> None:
    token = scope.request_id.set("r-17")
    try:
        assert "r-17" in format(redact).format(record("x"))
    finally:
        scope.request_id.reset(token)
    assert "r-17" not in format(redact).format(record("x"))


@pytest.mark.parametrize("format", [TextFormatter, JsonFormatter])
@pytest.mark.parametrize("made", [record("%s", HOSTILE), failed(HOSTILE)], ids=["message", "exception"])
def test_nothing_that_a_terminal_acts_on_gets_out(
    format: type[TextFormatter | JsonFormatter], made: logging.LogRecord
) -> None:
    line = format(redact).format(made)
    assert all(character == "\n" or character.isprintable() for character in line)
    line.encode()


@pytest.mark.parametrize("made", [record("%s", HOSTILE), failed(HOSTILE)], ids=["message", "exception"])
def test_nothing_passes_for_a_line_of_its_own(made: logging.LogRecord) -> None:
    _, *further = TextFormatter(redact).format(made).splitlines()
    assert further
    assert all(line.startswith("    ") for line in further)
    assert len(JsonFormatter(redact).format(made).splitlines()) == 1


@pytest.mark.parametrize("format", [TextFormatter, JsonFormatter])
@pytest.mark.parametrize("made", [record("http://a:hunter22@b/"), failed("http://a:hunter22@b/")])
def test_secrets_are_masked_wherever_they_stand(
    format: type[TextFormatter | JsonFormatter], made: logging.LogRecord
) -> None:
    line = format(redact).format(made)
    assert "hunter22" not in line
    assert MASK in line


def test_lines_are_bounded_and_a_secret_at_the_bound_does_not_show() -> None:
    text = "x" * (logline.LONGEST_MESSAGE - 10) + " sk-" + "s" * 100_000
    entry = from_record(record("%s", text), 1)
    assert len(entry.message) <= 2 * logline.LONGEST_MESSAGE
    shown = entry.shown(redact)["message"]
    assert len(shown) <= logline.LONGEST_MESSAGE + 1
    assert "sss" not in shown


def test_tracebacks_are_bounded_and_keep_their_ends() -> None:
    entry = from_record(failed("x" * 100_000 + " the end"), 1)
    assert entry.context
    assert len(entry.context) <= logline.LONGEST_CONTEXT + 1
    assert entry.context.endswith("the end")


def test_what_can_be_read_stays_as_it_is() -> None:
    assert escape("grüße\t🦙") == "grüße\t🦙"
    assert escape("a\x1bb\u202ec\x00") == r"a\x1bb\u202ec\x00"


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("0.00.123.456 I srv  load_model: loading", logging.INFO),
        ("0.00.123.456 W srv  x", logging.WARNING),
        ("E srv  no such file", logging.ERROR),
        ("0.00.1 D x", logging.DEBUG),
        ("I am a library", logging.INFO),
        ("WARNING without a mark", logging.INFO),
        ("", logging.INFO),
    ],
)
def test_engines_mark_their_lines(line: str, level: int) -> None:
    assert from_engine("m", line, 1) == LogEntry(1, level, "engine", line, "m")


def test_records_own_word_wins_over_the_scope() -> None:
    token = scope.model.set("asked-for")
    try:
        assert from_record(record("x"), 1).model == "asked-for"
        assert from_record(record("x", model="drained"), 1).model == "drained"
    finally:
        scope.model.reset(token)


@pytest.mark.parametrize(
    ("number", "name"),
    [(5, "debug"), (10, "debug"), (20, "info"), (25, "info"), (30, "warning"), (40, "error"), (50, "error")],
)
def test_every_number_has_a_level(number: int, name: str) -> None:
    assert logline.level_name(number) == name


@pytest.mark.usefixtures("levels")
def test_libraries_tell_no_less_than_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    """aiosqlite would tell the values of rows, and each line that is kept would be the reason for another."""
    logline.set_up("debug", "json", redact)
    logging.getLogger("llamaproxy.x").debug("ours")
    logging.getLogger("aiosqlite").debug("theirs")
    logging.getLogger("aiosqlite").warning("worse")
    lines = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert lines == ["ours", "worse"]


@pytest.mark.usefixtures("levels")
def test_level_changes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    logline.set_up("info", "text", redact)
    for level in ("info", "debug", "error"):
        logline.set_level(level)
        assert logline.level_in_force() == level
        logging.getLogger("llamaproxy").debug("while at %s", level)
    assert capsys.readouterr().err.count("while at") == 1


@pytest.mark.usefixtures("levels")
def test_spelling_changes_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    logline.set_up("info", "text", redact)
    for format in ("json", "text", "json"):
        logline.set_format(format, redact)
        logging.getLogger("llamaproxy").info("now")
    assert [line.startswith("{") for line in capsys.readouterr().err.splitlines()] == [True, False, True]
