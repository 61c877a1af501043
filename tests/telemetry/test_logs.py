"""llamaproxy.telemetry.logs: one log of what the gateway says and what engines print."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llamaproxy import scope
from llamaproxy.config import Config
from llamaproxy.telemetry import logline
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.logquery import LogQuery
from llamaproxy.telemetry.logs import Logs
from llamaproxy.telemetry.redaction import MASK, REDACTION
from tests.gateway import until

log = logging.getLogger("llamaproxy.test")
Start = Callable[..., Awaitable[Logs]]


@pytest.fixture
async def start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Start]:
    """A log with the history whose database it shares; called again, the one before is closed."""
    caplog.set_level(logging.DEBUG, logger="llamaproxy")
    running: list[tuple[Logs, History]] = []

    async def stop() -> None:
        for logs, history in running:
            await history.close()
            await logs.close()
        running.clear()

    async def starting(models: Any = None, **telemetry: Any) -> Logs:
        await stop()
        telemetry.setdefault("database", str(tmp_path / "llamaproxy.db"))
        config = Config.model_validate({"telemetry": telemetry, "models": models or {}})
        history = History(config.telemetry)
        logs = Logs(config, history)
        logs.attach()
        history.start()
        if history._writer:
            await until(lambda: history._writer and history._writer._store, "the database is open")
        running.append((logs, history))
        return logs

    yield starting
    await stop()
    REDACTION.know([])


async def messages(logs: Logs, **query: Any) -> list[str]:
    return [entry.message for entry in await logs.page(LogQuery(**query))]


def stored(tmp_path: Path) -> list[str]:
    with closing(sqlite3.connect(tmp_path / "llamaproxy.db")) as connection:
        return [message for (message,) in connection.execute("SELECT message FROM logs ORDER BY timestamp")]


async def test_what_is_said_and_printed_is_one_list(start: Start) -> None:
    logs = await start()
    log.info("starting")
    logs.printed("m", "0.1 I loading")
    log.warning("it is slow")
    assert await messages(logs) == ["it is slow", "0.1 I loading", "starting"]
    assert await messages(logs, model="m") == ["0.1 I loading"]
    assert await messages(logs, level=logging.WARNING) == ["it is slow"]


async def test_numbers_rise_whatever_the_clock_does(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = await start()
    times = iter([5_000_000_000, 5_000_000_000, 1_000_000_000, 9_000_000_000])
    monkeypatch.setattr("time.time_ns", lambda: next(times))
    for number in range(4):
        logs.printed("m", str(number))
    monkeypatch.undo()
    assert [entry.id for entry in await logs.page(LogQuery())] == [9_000_000, 5_000_002, 5_000_001, 5_000_000]


async def test_lines_outlive_the_process(start: Start) -> None:
    logs = await start()
    log.info("before")
    logs.printed("m", "I chatter")
    logs.printed("m", "E it broke")
    logs = await start()
    assert "before" in await messages(logs)
    assert await messages(logs, model="m") == ["E it broke"], "of engines what tells of trouble"


async def test_without_a_database_there_is_what_memory_has(start: Start) -> None:
    logs = await start(database="off")
    log.info("here")
    assert await messages(logs) == ["here"]
    logs.clear()
    assert await messages(logs) == []


async def test_cleared_lines_are_gone_at_once_and_for_ever(start: Start, tmp_path: Path) -> None:
    logs = await start()
    log.info("before")
    logs.clear()
    log.info("after")
    assert await messages(logs) == ["after"]
    logs = await start()
    assert "before" not in await messages(logs)
    assert "before" not in await asyncio.to_thread(stored, tmp_path)
    assert "after" in await messages(logs)


async def test_lines_of_threads_arrive_with_their_request(start: Start) -> None:
    logs = await start()
    scope.request_id.set("r-9")
    await asyncio.to_thread(log.info, "from a thread")
    await asyncio.sleep(0)
    (entry,) = await logs.page(LogQuery(request_id="r-9"))
    assert entry.message == "from a thread"


async def test_thread_that_outlives_the_loop_hurts_nobody(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    logs = await start()
    ended = asyncio.new_event_loop()
    ended.close()
    monkeypatch.setattr(logs, "_loop", ended)
    await asyncio.to_thread(log.info, "too late")
    assert await messages(logs) == []


async def test_followers_hear_both(start: Start) -> None:
    logs = await start()
    with logs.follow() as subscription:
        log.info("said")
        logs.listener("m")("printed")
    assert [entry.message async for entry in subscription] == ["said", "printed"]


async def test_followers_end_with_the_log(start: Start) -> None:
    logs = await start()
    subscription = logs.follow()
    await logs.close()
    log.info("nobody hears this")
    assert [entry.message async for entry in subscription] == []


async def test_configured_secrets_are_masked(start: Start) -> None:
    models = {
        "far": {"url": "http://10.0.0.1", "api_key": "correcthorse"},
        "near": {"path": "/m.gguf", "env": {"HF_TOKEN": "batterystaple", "HOME": "/somewhere"}},
    }
    logs = await start(models)
    log.info("correcthorse batterystaple /somewhere")
    (entry,) = await logs.page(LogQuery())
    assert entry.shown(REDACTION.redact)["message"] == f"{MASK} {MASK} /somewhere"


async def test_reload_changes_the_level_only_where_the_configured_one_changed(start: Start) -> None:
    logs = await start(log_level="info")
    logline.set_level("debug")
    logs.reconfigure(Config.model_validate({"telemetry": {"log_level": "info", "retention": "1d"}}))
    assert logline.level_in_force() == "debug"
    logs.reconfigure(Config.model_validate({"telemetry": {"log_level": "error"}}))
    assert logline.level_in_force() == "error"


async def test_reload_changes_the_directory_of_files(start: Start, tmp_path: Path) -> None:
    logs = await start(log_dir=str(tmp_path / "one"))
    logs.printed("m", "first")
    one = logs.files
    logs.reconfigure(Config.model_validate({"telemetry": {"log_dir": str(tmp_path / "two")}}))
    logs.printed("m", "second")
    two = logs.files
    logs.reconfigure(Config.model_validate({"telemetry": {}}))
    logs.printed("m", "third")
    assert one and two and logs.files is None
    await asyncio.to_thread(one.close)
    await asyncio.to_thread(two.close)
    assert (await asyncio.to_thread(one.path("m").read_text)).endswith("Z first\n")
    assert (await asyncio.to_thread(two.path("m").read_text)).endswith("Z second\n")


async def test_engines_output_goes_to_files_where_there_is_a_directory(start: Start, tmp_path: Path) -> None:
    logs = await start(log_dir=str(tmp_path / "logs"))
    logs.printed("org/m", "loading")
    await logs.close()
    assert logs.files
    assert (await asyncio.to_thread(logs.files.path("org/m").read_text)).endswith("Z loading\n")
    assert logs.health()["directory"] == str(tmp_path / "logs")


async def test_line_that_cannot_be_made_is_reported_and_nothing_else(
    start: Start, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = await start()
    monkeypatch.setattr(logging, "raiseExceptions", True)
    logs._handler.handle(logging.LogRecord("llamaproxy", logging.INFO, "f", 1, "%d", ("x",), None))
    assert "Logging error" in capsys.readouterr().err
