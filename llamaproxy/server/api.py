"""Every route below /api, in one table: it drives dispatching, and `/api/openapi.json` is written from it.

Owns the table and nothing else. Whoever adds a route adds a line here; handlers live with what they are about.
"""

from dataclasses import fields
from typing import Any

from aiohttp import web
from pydantic import create_model

from llamaproxy.errors import (
    ConfigError,
    Conflict,
    DuplicateModel,
    EngineMissing,
    GatewayError,
    GatewayTimeout,
    HubBusy,
    HubDenied,
    HubError,
    InvalidRequest,
    LoadTimeout,
    ModelNotFound,
    ModelStartFailed,
    NotFound,
    QueueFull,
    RateLimitExceeded,
    RepositoryNotFound,
    Unavailable,
    UpstreamError,
)
from llamaproxy.server.adjust import Settings
from llamaproxy.server.answers import json_response
from llamaproxy.server.captures import CaptureRoutes, Forgotten, ShownCapture
from llamaproxy.server.configuration import Configuration, Reloaded, ShownConfig, ShownSettings
from llamaproxy.server.deploy import Deploy, JobPage, Plan, ShownJob, Wanted
from llamaproxy.server.health import Health, ShownHealth
from llamaproxy.server.keyroutes import KeyPage, KeyRoutes, MadeKey, Revoked, WantedKey
from llamaproxy.server.logs import Cleared, LogPage, LogRoutes
from llamaproxy.server.modelroutes import Deleted, ModelRoutes, Scanned
from llamaproxy.server.models import EventPage, ModelDetails, ModelPage, Models, ShownModel
from llamaproxy.server.openapi import describe
from llamaproxy.server.progress import Phase
from llamaproxy.server.proxy import Chat
from llamaproxy.server.requests import Cancelled, Requests, UsagePage
from llamaproxy.server.routes import Handler, Parameter, Route, Routes
from llamaproxy.server.signin import Credentials, ShownSession, SignedOut, SignIn
from llamaproxy.server.system import System
from llamaproxy.server.wanted import ConfigEdit, ModelEdit, NewModel
from llamaproxy.telemetry import logquery, query
from llamaproxy.telemetry.ledger import FIELDS, RequestRow, RequestState
from llamaproxy.telemetry.modelhistory import RANGES
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
_WORD = "[A-Za-z0-9][A-Za-z0-9._-]*"
_STARTING: tuple[type[GatewayError], ...] = (ModelNotFound, EngineMissing, ModelStartFailed)
_CHAT: tuple[type[GatewayError], ...] = (
    *(ModelNotFound, DuplicateModel, QueueFull, RateLimitExceeded),
    *(UpstreamError, Unavailable, EngineMissing, GatewayTimeout, LoadTimeout),
)
_UNTIL_RELOAD = "Lasts until the configuration is reloaded, or the gateway restarted; it is not written to the file."

_KEPT = "Kept over restarts and put in force like a reload: processes that are others then end what they are answering."


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
        *_models(models, edited),
        *_requests(requests),
        *_configuration(configuration),
        Route("GET", "/api/health", health.show, "What to look at", ShownHealth),
        *_system(system),
        *_keys(keys),
        *_logs(logs),
        *_captures(captures),
        *_sessions(sign_in),
        *_deploy(deploy),
        _chat(chat),
    ]

    async def openapi(request: web.Request) -> web.Response:
        return json_response(description)

    table.append(Route("GET", "/api/openapi.json", openapi, "This description, as OpenAPI 3.1", dict[str, Any]))
    description = describe(table)
    return Routes(table)


def _models(models: Models, edited: ModelRoutes) -> list[Route]:
    def action(verb: str, handler: Any, title: str, description: str, errors: Any = (ModelNotFound,)) -> Route:
        path = f"/api/models/{{name}}/{verb}"
        return Route("POST", path, handler, title, ShownModel, description, errors=errors)

    span = Parameter("range", "how far back", {"type": "string", "enum": list(RANGES), "default": "1h"})
    at_once = "Answers at once with the model as it is then."
    create, scan = _making(edited)
    return [
        Route("GET", "/api/models", models.page, "List models", ModelPage),
        create,
        scan,
        Route(
            "GET",
            "/api/models/history",
            models.past,
            "What happened to the models",
            EventPage,
            "States of processes and circuit breakers, and why.",
            query=(span,),
            errors=(InvalidRequest,),
        ),
        Route("GET", "/api/models/{name}", models.one, "Show a model", ModelDetails, errors=(ModelNotFound,)),
        *_editing(edited),
        action("start", models.start, "Start a model", f"Closes its breaker. {at_once}", _STARTING),
        action(
            "stop", models.stop, "Stop a model", f"Requests in flight end first, queued ones are refused. {at_once}"
        ),
        action(
            "restart",
            models.restart,
            "Restart a model",
            f"Requests in flight end first, queued ones wait for the new process. {at_once}",
            _STARTING,
        ),
        action("pin", models.pin, "Pin a model", _UNTIL_RELOAD, (ModelNotFound, InvalidRequest)),
        action("unpin", models.unpin, "Unpin a model", _UNTIL_RELOAD, (ModelNotFound, InvalidRequest)),
        action("reset-breaker", models.reset_breaker, "Close a model's breaker", "The next request may try it again."),
    ]


def _making(edited: ModelRoutes) -> tuple[Route, Route]:
    return (
        Route(
            *("POST", "/api/models", edited.create, "Make a model of a file", ModelDetails),
            "The file lies inside catalog.models_dir. Kept over restarts.",
            body=NewModel,
            errors=(Conflict, ConfigError),
            status=201,
        ),
        Route(
            *("POST", "/api/models/scan", edited.scan, "Look for models in the directory again", Scanned),
            "The configuration is read again, too.",
            errors=(Conflict, ConfigError),
        ),
    )


def _editing(edited: ModelRoutes) -> list[Route]:
    path, errors = "/api/models/{name}", (ModelNotFound, Conflict, ConfigError)
    truth = {"type": "string", "enum": ["true", "false"], "default": "false"}
    asked = (
        Parameter("file", "delete its files, too, where they lie inside catalog.models_dir", truth),
        Parameter("force", "although requests are in flight; they end first, those that wait are refused", truth),
    )
    return [
        Route(
            *("PATCH", path, edited.change, "Edit a model", ModelDetails),
            f"Only what is named; null takes an edit back. {_KEPT}",
            body=ModelEdit,
            errors=errors,
        ),
        Route(
            *("PUT", path, edited.replace, "Replace a model's edits", ModelDetails),
            f"What is not named is as without an edit. {_KEPT}",
            body=ModelEdit,
            errors=errors,
        ),
        Route(
            *("DELETE", path, edited.delete, "Delete a model, or take its edits back", Deleted),
            "One that was made here is removed; of any other the edits are taken back. Requests in flight end first.",
            query=asked,
            errors=errors,
        ),
    ]


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
            "has begun a stream that ends with that error; their rows are `rejected`, or `truncated`.",
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
            f"Only what is named; null takes an edit back. {_KEPT}",
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
        Route("GET", "/api/settings", configuration.settings, "Show what can be changed at once", ShownSettings),
        Route(
            "PATCH",
            "/api/settings",
            configuration.change,
            "Change settings",
            ShownSettings,
            f"Only what is named is changed. {_UNTIL_RELOAD}",
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
    asked = (
        Parameter(
            "limit", "most lines", {"type": "integer", "minimum": 1, "maximum": logquery.MOST_ENTRIES, "default": 100}
        ),
        Parameter("before", "lines before the one with this `id`, newest first", cursor),
        Parameter("after", "lines after the one with this `id`, oldest first: to follow the log", cursor),
        Parameter("level", "those of this level or worse", {"type": "string", "enum": sorted(logquery.SPELLINGS)}),
        Parameter("model", "only those about this model, or of its engine", name),
        Parameter("request_id", "only those of this request", name),
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


def _deploy(deploy: Deploy) -> list[Route]:
    off = "Needs `catalog.downloads`."
    asked = (
        Parameter("repo", "such as Qwen/Qwen3-0.6B-GGUF", {"type": "string", "pattern": rf"^{_WORD}/{_WORD}$"}),
        Parameter("revision", "branch, tag or commit", {"type": "string", "pattern": f"^{_WORD}$", "default": "main"}),
    )
    faults = (ConfigError, InvalidRequest, RepositoryNotFound, HubError, HubDenied, HubBusy)
    return [
        Route("GET", "/api/deploy", deploy.page, "List downloads of models", JobPage),
        Route(
            "POST",
            "/api/deploy",
            deploy.start,
            "Pull a model from the Hugging Face hub",
            ShownJob,
            f"Without `quant` and `files` it is Q4_K_M, or the only one there is. {off}",
            body=Wanted,
            errors=(*faults, Conflict, QueueFull),
            status=202,
        ),
        Route(
            "GET",
            "/api/deploy/plan",
            deploy.plan,
            "What a repository of the Hugging Face hub offers",
            Plan,
            off,
            query=asked,
            errors=faults,
        ),
        Route(
            "GET",
            "/api/deploy/stream",
            deploy.stream,
            "Follow downloads",
            JobPage,
            "Events `jobs`, twice a second at most, until none is on its way; then one `end`.",
            errors=(QueueFull,),
            media="text/event-stream",
        ),
        Route("GET", "/api/deploy/{id}", deploy.one, "Show a download", ShownJob, errors=(NotFound,)),
        Route(
            "DELETE",
            "/api/deploy/{id}",
            deploy.cancel,
            "Cancel a download",
            ShownJob,
            "What there is of it stays: the next one of the same goes on there.",
            errors=(NotFound,),
        ),
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
