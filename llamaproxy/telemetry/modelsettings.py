"""Which models there are and how they are set, as a table for whoever reads the database with SQL.

Owns nothing that the gateway itself reads: what holds is the configuration. Secrets are masked by who tells.
"""

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import orjson

from llamaproxy.telemetry.history import History
from llamaproxy.telemetry.store import Store

_DELETE = "DELETE FROM model_settings WHERE name NOT IN (SELECT value FROM json_each(?))"
_PUT = """
    INSERT INTO model_settings
    (name, type, parameters, model_path, model_url, ctx_size, batch_size, threads, created_at, updated_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9)
    ON CONFLICT (name) DO UPDATE SET type = ?2, parameters = ?3, model_path = ?4, model_url = ?5, ctx_size = ?6,
    batch_size = ?7, threads = ?8, updated_at = ?9 WHERE (type, parameters) IS NOT (?2, ?3)
"""


class Setting(NamedTuple):
    """One model; `parameters` are all of its settings, the ones beside it among them."""

    name: str
    type: str
    parameters: dict[str, Any]

    def cells(self, now: float) -> tuple[object, ...]:
        columns = ("path", "url", "ctx_size", "batch_size", "threads")
        json = orjson.dumps(self.parameters, option=orjson.OPT_SORT_KEYS).decode()
        return (self.name, self.type, json, *(self.parameters.get(column) for column in columns), now)


class ModelSettings:
    """A sideline of the writer: what was told last is written once."""

    def __init__(self, history: History, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._told: list[Setting] | None = None
        self._wake = history.attach(self)

    def tell(self, settings: Iterable[Setting]) -> None:
        """All models there are."""
        if self._wake:
            self._told = list(settings)
            self._wake()

    def __len__(self) -> int:
        return self._told is not None

    async def write(self, store: Store) -> None:
        """Raises what the store raises, and is asked again then."""
        told = self._told
        if told is None:
            return
        names = [setting.name for setting in told]
        await store.delete(_DELETE, (orjson.dumps(names).decode(),))
        await store.insert([setting.cells(self._clock()) for setting in told], _PUT)
        if self._told is told:
            self._told = None

    async def prune(self, store: Store, horizon: float) -> bool:
        """They are as many as there are models."""
        return False
