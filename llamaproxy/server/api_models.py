"""The routes of /api that are about models: seeing, running, making, editing and getting them.

Owns their lines of the table that `api` puts together, and nothing else.
"""

from typing import Any

from llamaproxy.errors import (
    ConfigError,
    Conflict,
    EngineMissing,
    GatewayError,
    HubBusy,
    HubDenied,
    HubError,
    InvalidRequest,
    ModelNotFound,
    ModelStartFailed,
    NotFound,
    QueueFull,
    RepositoryNotFound,
)
from llamaproxy.server.deploy import Deploy, JobPage, Plan, ShownJob, Wanted
from llamaproxy.server.modelroutes import Deleted, ModelRoutes, Scanned
from llamaproxy.server.models import Models
from llamaproxy.server.routes import Parameter, Route
from llamaproxy.server.shownmodel import EventPage, ModelDetails, ModelPage, ShownModel
from llamaproxy.server.wanted import ModelEdit, NewModel
from llamaproxy.telemetry.modelhistory import RANGES

_WORD = "[A-Za-z0-9][A-Za-z0-9._-]*"
_STARTING: tuple[type[GatewayError], ...] = (ModelNotFound, EngineMissing, ModelStartFailed)
UNTIL_RELOAD = "Lasts until the configuration is reloaded, or the gateway restarted; it is not written to the file."
KEPT = "Kept over restarts and put in force like a reload: processes that are others then end what they are answering."


def model_routes(models: Models, edited: ModelRoutes) -> list[Route]:
    """Seeing and running models, making and editing them."""

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
        action("pin", models.pin, "Pin a model", UNTIL_RELOAD, (ModelNotFound, InvalidRequest)),
        action("unpin", models.unpin, "Unpin a model", UNTIL_RELOAD, (ModelNotFound, InvalidRequest)),
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
            f"Only what is named; null takes an edit back. {KEPT}",
            body=ModelEdit,
            errors=errors,
        ),
        Route(
            *("PUT", path, edited.replace, "Replace a model's edits", ModelDetails),
            f"What is not named is as without an edit. {KEPT}",
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


def deploy_routes(deploy: Deploy) -> list[Route]:
    """Getting models from the Hugging Face hub."""
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
