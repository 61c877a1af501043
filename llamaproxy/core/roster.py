"""Which models there are: the records of all backends, and what a new configuration makes of them.

Takes the new settings in, and says whose process is of no use any more. Rejects and stops nobody: `orders` does.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from llamaproxy.config import BreakerConfig
from llamaproxy.core.backend import Backend
from llamaproxy.core.breaker import Breaker
from llamaproxy.core.events import ModelsChanged
from llamaproxy.core.states import BackendState
from llamaproxy.modelconfig import ModelConfig


@dataclass(frozen=True, slots=True)
class Changes:
    """Backends whose model is gone, and those whose model is another one now."""

    removed: list[Backend]
    replaced: list[Backend]


class Roster:
    """Backends by name. A model that was removed is remembered until its process is gone.

    No number of a spawn is given twice to one name, not even when the model was forgotten in between.
    """

    def __init__(self, models: Mapping[str, ModelConfig], breaker: BreakerConfig) -> None:
        self.backends: dict[str, Backend] = {}
        self._highest_spawn = 0
        for name, config in models.items():
            self._add(name, config, breaker)

    def model(self, name: str) -> Backend | None:
        """The backend of a model that the configuration knows."""
        backend = self.backends.get(name)
        return None if backend is None or backend.removed else backend

    def process(self, name: str, spawn: int) -> Backend | None:
        """The backend whose latest process this is."""
        backend = self.backends.get(name)
        return backend if backend and backend.spawn == spawn else None

    def adopt(self, event: ModelsChanged) -> Changes:
        removed = [b for b in self.backends.values() if b.name not in event.models and not b.removed]
        for gone in removed:
            gone.removed = True
        replaced = []
        for name, config in event.models.items():
            if (backend := self.backends.get(name)) is None:
                self._add(name, config, event.breaker)
                continue
            if name in event.replaced or not config.starts_like(backend.config):
                replaced.append(backend)
            backend.config, backend.breaker.config, backend.removed = config, event.breaker, False
        return Changes(removed, replaced)

    def drop_if_removed(self, backend: Backend) -> None:
        """Forget a model that is no more, once nothing is left of it."""
        if backend.removed and backend.state is BackendState.STOPPED:
            self._highest_spawn = max(self._highest_spawn, backend.spawn)
            del self.backends[backend.name]

    def _add(self, name: str, config: ModelConfig, breaker: BreakerConfig) -> None:
        self.backends[name] = Backend(name, config, Breaker(breaker), spawn=self._highest_spawn)
