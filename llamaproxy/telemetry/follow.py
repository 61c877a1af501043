"""Following what happens, for somebody who may be slow.

Owns bounded queues: who does not keep up loses what is oldest, and learns how much; nobody who tells waits for anybody
who listens. Belongs to one event loop.
"""

import asyncio
from collections import deque
from typing import Generic, Self, TypeVar

T = TypeVar("T")

MOST_WAITING = 1000


class Subscription(Generic[T]):
    """Items from its making to its `close`, as an asynchronous iterator. `dropped` counts those that were lost."""

    def __init__(self, followers: "Followers[T]", most: int) -> None:
        self._followers = followers
        self._waiting: deque[T] = deque(maxlen=most)
        self._news = asyncio.Event()
        self._closed = False
        self.dropped = 0

    def put(self, item: T) -> None:
        self.dropped += len(self._waiting) == self._waiting.maxlen
        self._waiting.append(item)
        self._news.set()

    @property
    def first(self) -> T | None:
        """The oldest that waits."""
        return self._waiting[0] if self._waiting else None

    def take(self) -> list[T]:
        """All that wait, oldest first, without waiting for more."""
        items = list(self._waiting)
        self._waiting.clear()
        return items

    async def batch(self) -> list[T]:
        """The same, once there is something; nothing after the end."""
        while not self._waiting and not self._closed:
            self._news.clear()
            await self._news.wait()
        return self.take()

    def close(self) -> None:
        """What waits can still be read; then the iteration ends."""
        self._closed = True
        self._followers.discard(self)
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Followers(Generic[T]):
    """All who listen."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription[T]] = set()

    def follow(self, most: int = MOST_WAITING) -> Subscription[T]:
        """Everything from now on, `most` items of it at once."""
        subscription = Subscription(self, most)
        self._subscriptions.add(subscription)
        return subscription

    def tell(self, item: T) -> None:
        for subscription in self._subscriptions:
            subscription.put(item)

    def discard(self, subscription: Subscription[T]) -> None:
        self._subscriptions.discard(subscription)

    def close(self) -> None:
        """Nothing more will come."""
        for subscription in list(self._subscriptions):
            subscription.close()

    def __len__(self) -> int:
        return len(self._subscriptions)
