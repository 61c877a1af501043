"""What is in force: the configuration, the catalogue made of it, and the guard.

They change together, when the configuration is reloaded, and whoever serves a request asks for them anew. Decides
nothing.
"""

from dataclasses import dataclass

from llamaproxy.config import Config
from llamaproxy.models.catalogue import Catalogue
from llamaproxy.server.guard import Guard


@dataclass(slots=True)
class Current:
    """`replace` is the only way to change it."""

    config: Config
    catalogue: Catalogue
    guard: Guard

    @classmethod
    def of(cls, config: Config, catalogue: Catalogue) -> "Current":
        return cls(config, catalogue, Guard(config))

    def replace(self, config: Config, catalogue: Catalogue) -> None:
        self.config, self.catalogue, self.guard = config, catalogue, Guard(config)
