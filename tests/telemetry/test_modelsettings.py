"""llamaproxy.telemetry.modelsettings: the models as rows that anybody can read with SQL."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.config import TelemetryConfig
from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.modelsettings import ModelSettings, Setting
from llamaproxy.telemetry.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "llamaproxy.db")
    yield opened
    await opened.close()


@pytest.fixture
def now() -> list[float]:
    """The time, for tests to change."""
    return [0.0]


@pytest.fixture
async def settings(tmp_path: Path, now: list[float]) -> AsyncIterator[ModelSettings]:
    history = History(TelemetryConfig(database=str(tmp_path / "llamaproxy.db")))
    yield ModelSettings(history, lambda: now[0])
    await history.close()


def setting(name: str, **parameters: Any) -> Setting:
    return Setting(name, "path", {"path": f"/{name}.gguf", **parameters})


def rows(tmp_path: Path, columns: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(tmp_path / "llamaproxy.db")) as connection:
        return connection.execute(f"SELECT {columns} FROM models ORDER BY name").fetchall()


async def test_models_that_are_no_more_go(settings: ModelSettings, store: Store, tmp_path: Path) -> None:
    for names in ("ab", "bc"):
        settings.tell([setting(name, threads=4) for name in names])
        await settings.write(store)
    assert rows(tmp_path, "name, type, model_path, threads") == [
        ("b", "path", "/b.gguf", 4),
        ("c", "path", "/c.gguf", 4),
    ]


async def test_only_what_is_changed_has_been_updated(
    settings: ModelSettings, store: Store, tmp_path: Path, now: list[float]
) -> None:
    for now[0], size in ((1.0, 10), (2.0, 20)):
        settings.tell([setting("a"), setting("b", ctx_size=size)])
        await settings.write(store)
    found = rows(tmp_path, "name, ctx_size, created_at, updated_at")
    assert found == [("a", None, 1, 1), ("b", 20, 1, 2)]


async def test_what_was_told_is_written_once(settings: ModelSettings, store: Store) -> None:
    assert len(settings) == 0
    settings.tell([])
    assert len(settings) == 1
    await settings.write(store)
    assert len(settings) == 0
    await settings.write(store)
    assert not await settings.prune(store, 0)


async def test_without_a_database_nothing_is_kept() -> None:
    settings = ModelSettings(History(TelemetryConfig(database="off")))
    settings.tell([setting("a")])
    assert len(settings) == 0
