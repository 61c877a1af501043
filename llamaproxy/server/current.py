"""What is in force: the configuration, the catalogue made of it, the keys made at run time, the
sessions of browsers, and the guard.

They change together, when the configuration is reloaded, and whoever serves a request asks for them anew. Decides
nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llamaproxy.config import Config, KeyConfig
from llamaproxy.models.catalogue import Catalogue
from llamaproxy.server.guard import Guard
from llamaproxy.server.sessions import Sessions
from llamaproxy.server.splice import Deadlines


@dataclass(slots=True)
class Current:
    """`replace` is the only way to change it.

    What every request asks for stands here once more: a look into the configuration costs as much as a dozen others.
    """

    config: Config
    catalogue: Catalogue
    stored_keys: Mapping[str, KeyConfig] = field(default_factory=dict)
    sessions: Sessions = field(default_factory=Sessions)
    guard: Guard = field(init=False)
    deadlines: Deadlines = field(init=False)
    base_path: str = field(init=False)
    max_body: int = field(init=False)
    body_timeout: float = field(init=False)

    def __post_init__(self) -> None:
        self.replace(self.config, self.catalogue)

    def replace(self, config: Config, catalogue: Catalogue, stored_keys: Mapping[str, KeyConfig] | None = None) -> None:
        """Without `stored_keys` they stay as they are."""
        self.config, self.catalogue = config, catalogue
        self.stored_keys = self.stored_keys if stored_keys is None else stored_keys
        self.guard = Guard(config, self.stored_keys, self.sessions)
        self.deadlines = Deadlines(config.engine.first_byte_timeout, config.engine.idle_timeout)
        self.base_path = config.server.base_path
        self.max_body, self.body_timeout = config.server.max_body, config.server.body_timeout
