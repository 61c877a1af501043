"""llamaproxy.telemetry.follow: who listens hears everything it keeps up with, and delays nobody."""

import asyncio

from llamaproxy.tasks import spawn
from llamaproxy.telemetry.follow import Followers, Subscription


async def heard(subscription: Subscription[int]) -> list[int]:
    return [item async for item in subscription]


async def test_everything_from_now_on_in_its_order() -> None:
    followers: Followers[int] = Followers()
    followers.tell(0)
    with followers.follow() as subscription:
        listening = spawn(heard(subscription), name="listen")
        for item in range(1, 4):
            followers.tell(item)
            await asyncio.sleep(0)
    assert await listening == [1, 2, 3]


async def test_who_is_slow_loses_the_oldest_and_learns_how_many() -> None:
    followers: Followers[int] = Followers()
    slow, quick = followers.follow(most=3), followers.follow()
    for item in range(10):
        followers.tell(item)
    assert (slow.take(), slow.dropped) == ([7, 8, 9], 7)
    assert (len(quick.take()), quick.dropped) == (10, 0)


async def test_batch_is_all_that_waits_and_waits_for_the_first() -> None:
    followers: Followers[int] = Followers()
    subscription = followers.follow()
    waiting = spawn(subscription.batch(), name="batch")
    await asyncio.sleep(0)
    assert not waiting.done()
    followers.tell(1)
    followers.tell(2)
    assert await waiting == [1, 2]


async def test_after_the_end_there_is_nothing_and_nobody_waits_for_it() -> None:
    followers: Followers[int] = Followers()
    subscription = followers.follow()
    followers.tell(1)
    followers.close()
    followers.tell(2)
    assert await subscription.batch() == [1]
    assert await subscription.batch() == []
    assert await heard(subscription) == []
    assert len(followers) == 0


async def test_who_leaves_is_forgotten() -> None:
    followers: Followers[int] = Followers()
    with followers.follow():
        assert len(followers) == 1
    assert len(followers) == 0


async def test_first_is_the_oldest_that_waits() -> None:
    followers: Followers[int] = Followers()
    seen: list[int | None] = []
    with followers.follow(2) as subscription:
        seen.append(subscription.first)
        for number in (1, 2, 3):
            followers.tell(number)
        seen.append(subscription.first)
        subscription.take()
        seen.append(subscription.first)
    assert seen == [None, 2, None]
