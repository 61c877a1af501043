"""llamaproxy.scope: whom a line belongs to, and where that ends."""

import asyncio

from llamaproxy import scope
from llamaproxy.tasks import spawn


async def seen() -> tuple[str | None, str | None]:
    return scope.request_id.get(), scope.model.get()


async def within_a_request(context: str) -> tuple[str | None, str | None]:
    scope.request_id.set("r-1")
    scope.model.set("asked-for")
    contexts = {"inherited": None, "nobody": scope.of_nobody(), "model": scope.of_model("m")}
    result: tuple[str | None, str | None] = await spawn(seen(), name="test", context=contexts[context])
    return result


async def test_what_a_request_begins_is_the_requests() -> None:
    assert await within_a_request("inherited") == ("r-1", "asked-for")


async def test_what_outlives_it_is_not() -> None:
    assert await within_a_request("nobody") == (None, None)
    assert await within_a_request("model") == (None, "m")


async def test_requests_do_not_see_one_another() -> None:
    first = asyncio.get_running_loop().create_task(within_a_request("inherited"))
    assert await first == ("r-1", "asked-for")
    assert await seen() == (None, None)
