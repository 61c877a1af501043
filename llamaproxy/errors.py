"""The one tree of errors.

Every class carries what the edge needs to answer with it: the HTTP status, the OpenAI error type and
the stable `code` that programs may compare. Owns no rendering: `server.openai` makes the envelope.
"""

import errno
from collections.abc import Iterable
from typing import ClassVar, Self


class GatewayError(Exception):
    """An error with an answer.

    `retry_after` is in seconds, None where waiting does not help. `param` names the request field
    at fault. `detail` is text that only callers allowed to see the engine's output may read.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: float | None = None, detail: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.detail = detail

    def again(self) -> Self:
        """The same error for another request: an exception that is raised twice collects both tracebacks."""
        return type(self)(self.message, param=self.param, retry_after=self.retry_after, detail=self.detail)


class ConfigError(GatewayError):
    """The configuration cannot be used; the message has one line per fault."""

    status = 422
    type = "configuration_error"
    code = "invalid_configuration"


class EngineMissing(GatewayError):
    """No llama-server can be found; the message says what to install."""

    status = 503
    type = "unavailable_error"
    code = "engine_missing"


class InvalidRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code = "invalid_request"


class Conflict(InvalidRequest):
    """What is asked for contradicts what is there; the message says what."""

    status = 409
    code = "conflict"


class InvalidJson(InvalidRequest):
    code = "invalid_json"


class DuplicateModel(InvalidRequest):
    code = "duplicate_model"


class InvalidApiKey(GatewayError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class Forbidden(GatewayError):
    status = 403
    type = "permission_error"
    code = "forbidden"


class ModelNotAllowed(Forbidden):
    code = "model_not_allowed"


class ForbiddenOrigin(Forbidden):
    code = "forbidden_origin"


class NotFound(GatewayError):
    status = 404
    type = "not_found_error"
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class UnknownEvent(NotFound):
    """A page asks over its WebSocket for what is no event."""

    code = "unknown_event"


class RepositoryNotFound(NotFound):
    """The hub has no such repository, revision or file, or shows it to nobody without a token."""

    code = "repository_not_found"


class MethodNotAllowed(InvalidRequest):
    """`methods` are those that the path takes."""

    status = 405
    code = "method_not_allowed"
    methods: tuple[str, ...] = ()

    @classmethod
    def taking(cls, path: str, methods: Iterable[str]) -> Self:
        """The error of a path that takes only these methods."""
        allowed = tuple(sorted(methods))
        error = cls(f"{path} takes {' or '.join(allowed)}")
        error.methods = allowed
        return error


class RequestTimeout(InvalidRequest):
    status = 408
    code = "request_timeout"


class RequestTooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"


class UriTooLong(InvalidRequest):
    status = 414
    code = "uri_too_long"


class UnsupportedMediaType(InvalidRequest):
    status = 415
    code = "unsupported_media_type"


class ExpectationFailed(InvalidRequest):
    status = 417
    code = "expectation_failed"


class RequestCancelled(GatewayError):
    """Somebody ended the request. Not a 5xx, 408 or 409: clients would send it again by themselves.

    Source of the status: google.rpc.Code, CANCELLED, "HTTP Mapping: 499 Client Closed Request".
    """

    status = 499
    type = "cancelled_error"
    code = "request_cancelled"


class HeadersTooLarge(InvalidRequest):
    status = 431
    code = "headers_too_large"


class NotImplementedHere(InvalidRequest):
    """A method or transfer coding that the gateway does not know."""

    status = 501
    code = "not_implemented"


class VersionNotSupported(InvalidRequest):
    status = 505
    code = "http_version_not_supported"


class QueueFull(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "queue_full"


class RateLimitExceeded(GatewayError):
    """A key has taken what it may; `retry_after` says when there will be room."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class RequestOverLimit(RateLimitExceeded):
    """Alone it is more than its key may ever take at once: asking again is in vain."""


class UpstreamError(GatewayError):
    """The backend broke its side of the exchange."""

    status = 502
    type = "upstream_error"
    code = "bad_upstream_response"


class HubError(UpstreamError):
    """The hub, or who serves its files, did not answer as it should."""

    code = "hub_failed"


class HubDenied(HubError):
    """The hub wants a token, or another one."""

    code = "hub_denied"


class ChecksumMismatch(HubError):
    """What was downloaded is not what the hub said it would be."""

    code = "checksum_mismatch"


class DiskFull(GatewayError):
    """Not enough room for a download, with what must stay free."""

    status = 507
    type = "insufficient_storage_error"
    code = "disk_full"


class RequestCrashedBackend(UpstreamError):
    """This request was in flight at every one of too many deaths of its backend."""

    code = "request_crashed_backend"


class Unavailable(GatewayError):
    status = 503
    type = "unavailable_error"
    code = "model_unavailable"


class ModelStartFailed(Unavailable):
    code = "model_start_failed"


class InvalidModelFile(ModelStartFailed):
    """The file holds no model that an engine could load; `detail` is its path."""


class HubBusy(Unavailable):
    """The hub answers no more of our requests for now."""

    code = "hub_busy"


class ModelOutOfMemory(Unavailable):
    code = "model_out_of_memory"


class Exhausted(Unavailable):
    """The gateway itself has no file descriptor or no memory left for another connection or process."""

    code = "gateway_exhausted"

    ERRORS: ClassVar = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN})
    """What the operating system says then; EAGAIN where it makes no more processes."""


class TooManyPages(Unavailable):
    """As many WebSockets of pages are open as there may be."""

    code = "too_many_pages"


class QueueTimeout(Unavailable):
    code = "queue_timeout"


class ShuttingDown(Unavailable):
    code = "shutting_down"


class GatewayTimeout(GatewayError):
    status = 504
    type = "timeout_error"
    code = "upstream_stalled"


class UpstreamStalled(GatewayTimeout):
    """No byte came from the backend within its deadline."""


class LoadTimeout(GatewayTimeout):
    code = "load_timeout"
