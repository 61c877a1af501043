"""What an operator should look at: is the configuration good, are rows written, how many tasks run.

Reads only.
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from llamaproxy import __version__
from llamaproxy.server.answers import json_response
from llamaproxy.server.reload import Reloader
from llamaproxy.telemetry.history import History


@dataclass(frozen=True, slots=True)
class ConfigHealth:
    """`error` is what is wrong with the newest configuration, while the one before stays in force; `loaded_at` in
    seconds since the epoch."""

    file: str | None
    loaded_at: float
    error: str | None


@dataclass(frozen=True, slots=True)
class ShownHealth:
    """Degraded where the gateway serves, and somebody should look. `tasks` grow with requests, and shrink again."""

    status: Literal["ok", "degraded"]
    version: str
    tasks: Annotated[int, Field(ge=0)]
    config: ConfigHealth
    requests: dict[str, Any]


class Health:
    """The handler for `/api/health`."""

    def __init__(self, history: History, reloader: Reloader) -> None:
        self._history = history
        self._reloader = reloader

    async def show(self, request: web.Request) -> web.Response:
        reloader = self._reloader
        file = str(reloader.file) if reloader.file else None
        return json_response(
            ShownHealth(
                status="degraded" if reloader.error or self._history.trouble else "ok",
                version=__version__,
                tasks=len(asyncio.all_tasks()),
                config=ConfigHealth(file, round(reloader.loaded_at, 3), reloader.error),
                requests=self._history.health(),
            )
        )
