"""Whom a line of the log belongs to: a request, a model, or nobody.

Owns two variables of the context that tasks inherit. The edge sets them, once for each request; whoever formats a line
reads them. A task that outlives the request it was begun under must not go on in its name: it gets a context of its
own.
"""

from contextvars import Context, ContextVar

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
model: ContextVar[str | None] = ContextVar("model", default=None)


def of_nobody() -> Context:
    """For what belongs to no request, although one may have been the occasion."""
    return Context()


def of_model(name: str) -> Context:
    """For the life of a backend: requests come and go meanwhile."""
    context = Context()
    context.run(model.set, name)
    return context
