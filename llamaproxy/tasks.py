"""Background tasks that cannot vanish.

asyncio keeps only weak references to tasks and reports an exception when the task is collected, if at
all. `spawn` keeps the reference and logs at once. Owns nothing else: cancelling is its caller's business.
"""

import asyncio
import logging
from collections.abc import Coroutine
from contextvars import Context
from typing import Any

log = logging.getLogger(__name__)

_running: set[asyncio.Task[Any]] = set()


def spawn(coroutine: Coroutine[Any, Any, Any], *, name: str, context: Context | None = None) -> asyncio.Task[Any]:
    """Run a coroutine as a named task; what it raises, except cancellation, is logged with its traceback.

    `context` is for a task that does not belong to whoever begins it, see `scope`.
    """
    task = asyncio.get_running_loop().create_task(coroutine, name=name, context=context)
    _running.add(task)
    task.add_done_callback(_finished)
    return task


def _finished(task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    if not task.cancelled() and (error := task.exception()):
        log.error("task %s failed", task.get_name(), exc_info=error)
