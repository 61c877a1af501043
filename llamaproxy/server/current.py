"""What is in force: the configuration, the catalogue made of it, and the guard.

They change together, when the configuration is reloaded, and whoever serves a request asks for them anew. Decides
nothing.
"""

from dataclasses import dataclass, field

from llamaproxy.config import Config
from llamaproxy.models.catalogue import Catalogue
from llamaproxy.server.guard import Guard
from llamaproxy.server.splice import Deadlines


@dataclass(slots=True)
class Current:
    """`replace` is the only way to change it."""

    config: Config
    catalogue: Catalogue
    guard: Guard = field(init=False)
    deadlines: Deadlines = field(init=False)

    def __post_init__(self) -> None:
        self.replace(self.config, self.catalogue)

    def replace(self, config: Config, catalogue: Catalogue) -> None:
        self.config, self.catalogue, self.guard = config, catalogue, Guard(config)
        self.deadlines = Deadlines(config.engine.first_byte_timeout, config.engine.idle_timeout)
