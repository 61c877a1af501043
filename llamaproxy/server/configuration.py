"""What operators see of the configuration, and may change of it while the gateway runs.

Shows it with its secrets masked, changes settings until the next reload, and edits it for good. What can be changed,
`adjust` and `edits` say; a command, a path or a variable never can: those come from the file and the environment only.
"""

import logging
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from llamaproxy import edits
from llamaproxy.config import Config
from llamaproxy.edits import Document
from llamaproxy.effective import effective, shown_origins
from llamaproxy.server import adjust
from llamaproxy.server.answers import json_response
from llamaproxy.server.current import Current
from llamaproxy.server.loaded import Loaded
from llamaproxy.server.reload import Reloader

log = logging.getLogger(__name__)

Table = dict[str, dict[str, Any]]
"""Sections with their keys, as in the file."""


@dataclass(frozen=True, slots=True)
class ShownConfig:
    """`file` is what was read. `origins` have the shape of `config`, and say where each value comes from: default,
    file, edited, environment, flag, or runtime for what lasts until the next reload. `editable` are those that can be
    changed here; `restart_required` names what has changed and is taken over by a restart only."""

    file: str | None
    config: Table
    origins: Table
    editable: Table
    restart_required: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShownSettings:
    """What can be changed at once, and where it comes from; times in seconds, sizes in bytes."""

    settings: Table
    origins: Table


@dataclass(frozen=True, slots=True)
class Reloaded:
    """Names of models. Processes of changed ones are replaced once they have ended what they are answering."""

    success: bool
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]


_schema = cache(Config.model_json_schema)


class Configuration:
    """Handlers for `/api/config`, `/api/settings` and `/api/reload`."""

    def __init__(self, current: Current, reloader: Reloader) -> None:
        self._current = current
        self._reloader = reloader

    async def show(self, request: web.Request) -> web.Response:
        return json_response(self._config())

    async def edit(self, request: web.Request, wanted: BaseModel) -> web.Response:
        """Answers with what is in force then. Raises Conflict or ConfigError."""
        tables: Table = wanted.model_dump(mode="json", exclude_unset=True)

        def change(document: Document, loaded: Loaded) -> Document:
            for section, values in tables.items():
                edits.check_free((section,), values, self._reloader.said)
                document = edits.with_table(document, section, edits.changed(document.get(section, {}), values))
            return document

        await self._reloader.edit(change)
        log.info("edited: %s", tables)
        return json_response(self._config())

    async def settings(self, request: web.Request) -> web.Response:
        return json_response(self._settings())

    async def schema(self, request: web.Request) -> web.Response:
        """Types, bounds and meanings of all keys, as JSON Schema."""
        return json_response(_schema())

    async def change(self, request: web.Request, wanted: adjust.Settings) -> web.Response:
        """Answers with what is in force then. Raises ConfigError."""
        self._reloader.amend(lambda loaded: adjust.with_settings(loaded, wanted))
        log.info("changed until the next reload: %s", wanted.model_dump(mode="json", exclude_unset=True))
        return json_response(self._settings())

    async def reload(self, request: web.Request) -> web.Response:
        """Read the configuration again; answers once it is in force. Raises ConfigError."""
        changes = await self._reloader.reload()
        return json_response(Reloaded(True, **asdict(changes)))

    def _config(self) -> ShownConfig:
        values = effective(self._current.config)
        wanted = self._reloader.loaded.config
        return ShownConfig(
            str(self._reloader.file) if self._reloader.file else None,
            values,
            shown_origins(values, self._reloader.origins),
            edits.editable(values, self._reloader.said),
            tuple(f"{section}.{key}" for section, key in edits.RESTART if _differs(section, key, wanted, values)),
        )

    def _settings(self) -> ShownSettings:
        values = adjust.settings_of(self._current.config)
        return ShownSettings(values, shown_origins(values, self._reloader.origins))


def _differs(section: str, key: str, wanted: Config, values: Table) -> bool:
    return bool(getattr(getattr(wanted, section), key) != values[section][key])
