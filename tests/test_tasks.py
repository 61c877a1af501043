"""llamaproxy.tasks: a task that nobody holds lives on, and what it raises is seen."""

import asyncio
import gc
import logging
import weakref

import pytest

from llamaproxy import scope, tasks
from llamaproxy.tasks import spawn


async def fail() -> None:
    raise LookupError("nothing here")


async def test_it_returns_a_named_task() -> None:
    async def seven() -> int:
        return 7

    task = spawn(seven(), name="seven")
    assert task.get_name() == "seven"
    assert await task == 7


async def test_a_task_nobody_holds_is_not_collected() -> None:
    begun = asyncio.Event()

    async def wait_for_ever() -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    held = weakref.ref(spawn(wait_for_ever(), name="held"))
    await begun.wait()
    gc.collect()
    task = held()
    assert task
    task.cancel()
    await asyncio.wait({task})


async def test_a_finished_task_is_let_go() -> None:
    async def nothing() -> None:
        pass

    for coroutine in (nothing(), fail()):
        await asyncio.wait({spawn(coroutine, name="short")})
    sleeper = spawn(asyncio.sleep(60), name="long")
    sleeper.cancel()
    await asyncio.wait({sleeper})
    assert not tasks._running


async def test_what_it_raises_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    await asyncio.wait({spawn(fail(), name="doomed")})
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage() == "task doomed failed"
    assert record.exc_info
    assert isinstance(record.exc_info[1], LookupError)


async def test_the_caller_may_still_ask_for_it() -> None:
    with pytest.raises(LookupError):
        await spawn(fail(), name="doomed")


async def test_an_end_and_a_cancellation_are_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    await spawn(asyncio.sleep(0), name="quiet")
    sleeper = spawn(asyncio.sleep(60), name="cancelled")
    await asyncio.sleep(0)
    sleeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeper
    assert not caplog.records


def test_it_needs_a_running_loop() -> None:
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="no running event loop"):
        spawn(coroutine, name="early")
    coroutine.close()


async def test_it_belongs_to_whom_it_is_said_to() -> None:
    async def whose() -> str | None:
        return scope.model.get()

    scope.model.set("ours")
    assert await spawn(whose(), name="inherited") == "ours"
    assert await spawn(whose(), name="another's", context=scope.of_model("other")) == "other"
