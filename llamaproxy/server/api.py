"""Every route below /api, in one table: it drives dispatching, and `/api/openapi.json` is written from it.

Owns the table and nothing else. Whoever adds a route adds a line here; handlers live with what they are about.
"""

import asyncio
from dataclasses import fields
from functools import cache
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, create_model

from llamaproxy.errors import (
    ConfigError,
    Conflict,
    DuplicateModel,
    EngineMissing,
    GatewayError,
    GatewayTimeout,
    InvalidRequest,
    LoadTimeout,
    ModelNotFound,
    NotFound,
    QueueFull,
    RateLimitExceeded,
    Unavailable,
    UpstreamError,
)
from llamaproxy.server.adjust import Settings
from llamaproxy.server.answers import json_response
from llamaproxy.server.api_models import KEPT, UNTIL_RELOAD, deploy_routes, model_routes
from llamaproxy.server.captures import CaptureRoutes, Forgotten, ShownCapture
from llamaproxy.server.configuration import Configuration, Reloaded, ShownConfig, ShownSettings
from llamaproxy.server.deploy import Deploy
from llamaproxy.server.health import Health, ShownHealth
from llamaproxy.server.keyroutes import KeyPage, KeyRoutes, MadeKey, Revoked, WantedKey
from llamaproxy.server.logs import Cleared, LogPage, LogRoutes
from llamaproxy.server.modelroutes import ModelRoutes
from llamaproxy.server.models import Models
from llamaproxy.server.openapi import describe
from llamaproxy.server.progress import Phase
from llamaproxy.server.requests import Cancelled, Requests, UsagePage
from llamaproxy.server.routes import Handler, Parameter, Route, Routes
from llamaproxy.server.signin import Credentials, ShownSession, SignedOut, SignIn
from llamaproxy.server.system import System
from llamaproxy.server.wanted import ConfigEdit
from llamaproxy.telemetry import logquery, query
from llamaproxy.telemetry.ledger import FIELDS, RequestRow, RequestState
from llamaproxy.telemetry.series import TIERS

_COLUMNS: Any = {field.name: (field.type, ...) for field in fields(RequestRow) if field.name in FIELDS}
_ROW: Any = create_model("Request", __doc__=RequestRow.__doc__, **_COLUMNS, phase=(Phase | None, None))
_ROWS: Any = create_model(
    "RequestPage", totals=(dict[str, int], ...), requests=(list[_ROW], ...), next=(str | None, ...)
)
_NAME: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": query.LONGEST_TEXT}
_SINCE = Parameter(
    "since",
    "seconds since the epoch (UTC)",
    {"type": "number", "minimum": 0, "exclusiveMaximum": 1e12, "default": 0},
)
_CHAT: tuple[type[GatewayError], ...] = (
    *(ModelNotFound, DuplicateModel, QueueFull, RateLimitExceeded),
    *(UpstreamError, Unavailable, EngineMissing, GatewayTimeout, LoadTimeout),
)


class Chat(BaseModel):
    """A chat completion's body; whatever else it says goes to the engine as it is."""

    model_config = ConfigDict(extra="allow")
    model: str | None = None
    messages: list[dict[str, Any]]


def api_routes(
    models: Models,
    requests: Requests,
    configuration: Configuration,
    health: Health,
    system: System,
    keys: KeyRoutes,
    logs: LogRoutes,
    captures: CaptureRoutes,
    edited: ModelRoutes,
    sign_in: SignIn,
    deploy: Deploy,
    chat: Handler,
) -> Routes:
    """The table, bound to its handlers."""
    table = [
        *model_routes(models, edited),
        *_requests(requests),
        *_configuration(configuration),
        Route("GET", "/api/health", health.show, "What to look at", ShownHealth),
        *_system(system),
        *_keys(keys),
        *_logs(logs),
        *_captures(captures),
        *_sessions(sign_in),
        *deploy_routes(deploy),
        _chat(chat),
    ]

    @cache
    def description() -> dict[str, Any]:
        """Made when somebody asks: it takes as long as much of the start does."""
        return describe(table)

    async def openapi(request: web.Request) -> web.Response:
        return json_response(await asyncio.to_thread(description))

    table.append(Route("GET", "/api/openapi.json", openapi, "This description, as OpenAPI 3.1", dict[str, Any]))
    return Routes(table)


def _requests(requests: Requests) -> list[Route]:
    states = [state.value for state in RequestState]
    orders = sorted([*query.SORTS, *(f"-{column}" for column in query.SORTS)])
    rows = (
        Parameter("limit", "most rows", {"type": "integer", "minimum": 1, "maximum": query.MOST_ROWS, "default": 100}),
        Parameter("before", "the `next` of the answer before", {"type": "string", "maxLength": 128}),
        Parameter("model", "only those for this model", _NAME),
        Parameter("key", "only those with the key of this name", _NAME),
        Parameter("state", "only those in this state", {"type": "string", "enum": states}),
        Parameter("sort", "order; - for descending", {"type": "string", "enum": orders, "default": "-started_at"}),
    )
    sums = (
        Parameter(
            "by",
            "what to sum by, with commas between: model, key, day",
            {"type": "string", "pattern": "^(model|key|day)(,(model|key|day)){0,2}$", "default": "model"},
        ),
        _SINCE,
    )
    bad, none = (InvalidRequest,), (NotFound,)
    return [
        Route("GET", "/api/requests", requests.page, "List requests", _ROWS, query=rows, errors=bad),
        Route("GET", "/api/requests/{id}", requests.one, "Show the newest request with an id", _ROW, errors=none),
        Route(
            "DELETE",
            "/api/requests/{id}",
            requests.cancel,
            "Cancel requests in flight",
            Cancelled,
            "All that are in flight under this id. Their clients get a 499 `request_cancelled`, or where the answer "
            "has begun a stream that ends with that error; their rows are `rejected`.",
            errors=none,
        ),
        Route("GET", "/api/usage", requests.usage, "Sum requests up", UsagePage, query=sums, errors=bad),
    ]


def _configuration(configuration: Configuration) -> list[Route]:
    return [
        Route("GET", "/api/config", configuration.show, "Show the configuration, secrets masked", ShownConfig),
        Route(
            "PATCH",
            "/api/config",
            configuration.edit,
            "Edit the configuration",
            ShownConfig,
            f"Only what is named; null takes an edit back. {KEPT}",
            body=ConfigEdit,
            errors=(Conflict, ConfigError),
        ),
        Route(
            "POST",
            "/api/reload",
            configuration.reload,
            "Read the configuration again",
            Reloaded,
            "Answers once it is in force. One that cannot be used changes nothing.",
            errors=(ConfigError,),
        ),
        Route("GET", "/api/config/schema", configuration.schema, "What each key means, as JSON Schema", dict[str, Any]),
        Route("GET", "/api/settings", configuration.settings, "Show what can be changed at once", ShownSettings),
        Route(
            "PATCH",
            "/api/settings",
            configuration.change,
            "Change settings",
            ShownSettings,
            f"Only what is named is changed. {UNTIL_RELOAD}",
            body=Settings,
            errors=(ConfigError,),
        ),
    ]


def _system(system: System) -> list[Route]:
    span = Parameter("range", "how far back", {"type": "string", "enum": list(TIERS), "default": "1h"})
    return [
        Route("GET", "/api/system", system.now, "The machine, its GPUs and the engines, now", dict[str, Any]),
        Route(
            "GET",
            "/api/system/history",
            system.past,
            "What they did",
            dict[str, Any],
            query=(span,),
            errors=(InvalidRequest,),
        ),
    ]


def _keys(keys: KeyRoutes) -> list[Route]:
    bad = (InvalidRequest, ConfigError)
    return [
        Route("GET", "/api/keys", keys.list, "List keys, without their secrets", KeyPage),
        Route(
            "POST",
            "/api/keys",
            keys.create,
            "Make a key",
            MadeKey,
            "Its secret is told this once.",
            body=WantedKey,
            errors=bad,
            status=201,
        ),
        Route("DELETE", "/api/keys/{name}", keys.revoke, "Revoke a key", Revoked, errors=(NotFound, *bad)),
    ]


def _logs(logs: LogRoutes) -> list[Route]:
    cursor = {"type": "integer", "minimum": 0, "maximum": logquery.LAST}
    name = {"type": "string", "pattern": logquery.NAME}
    text = {"type": "string", "maxLength": logquery.LONGEST_TEXT}
    asked = (
        Parameter(
            "limit", "most lines", {"type": "integer", "minimum": 1, "maximum": logquery.MOST_ENTRIES, "default": 100}
        ),
        Parameter("before", "lines before the one with this `id`, newest first", cursor),
        Parameter("after", "lines after the one with this `id`, oldest first: to follow the log", cursor),
        Parameter("level", "those of this level or worse", {"type": "string", "enum": sorted(logquery.SPELLINGS)}),
        Parameter("model", "only those about this model, or of its engine", name),
        Parameter("request_id", "only those of this request", name),
        Parameter("q", "only those with this text in them, ASCII letters in either case", text),
        _SINCE,
    )
    return [
        Route("GET", "/api/logs", logs.page, "List lines of the log", LogPage, query=asked, errors=(InvalidRequest,)),
        Route(
            "DELETE", "/api/logs", logs.clear, "Clear the log", Cleared, "In memory and in the database; files stay."
        ),
    ]


def _captures(captures: CaptureRoutes) -> list[Route]:
    path, none = "/api/requests/{id}/capture", (NotFound,)
    return [
        Route("GET", path, captures.one, "Show the bodies of a request and its answer", ShownCapture, errors=none),
        Route("DELETE", path, captures.forget, "Forget the bodies of a request", Forgotten, errors=none),
        Route("DELETE", "/api/captures", captures.clear, "Forget all captured bodies", Forgotten),
    ]


def _sessions(sign_in: SignIn) -> list[Route]:
    path = "/api/session"
    return [
        Route(
            "POST",
            path,
            sign_in.begin,
            "Sign in with a browser",
            ShownSession,
            "Sets a cookie that stands for the key in what the gateway's own pages ask; needs no other key.",
            body=Credentials,
        ),
        Route("DELETE", path, sign_in.end, "Sign out", SignedOut),
    ]


def _chat(chat: Handler) -> Route:
    return Route(
        "POST",
        "/api/chat",
        chat,
        "Chat with a model",
        str,
        "`/v1/chat/completions`, and always as a stream of its events.",
        body=Chat,
        errors=_CHAT,
        media="text/event-stream",
        raw=True,
    )
