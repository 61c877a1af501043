"""API keys as they are looked up: by their hash, to who that is and what it may do.

Pure: the time is passed in. Holds no secret. Where keys come from is the configuration's and the key file's business.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from llamaproxy.config import KeyConfig
from llamaproxy.core.limits import Limits
from llamaproxy.errors import InvalidApiKey, ModelNotAllowed


@dataclass(frozen=True, slots=True)
class Key:
    """`models` are the names and aliases that it may use, empty for all; `expires` in seconds since the epoch."""

    name: str
    models: frozenset[str] = frozenset()
    limits: Limits = field(default_factory=Limits)
    admin: bool = False
    expires: float = math.inf
    priority: int = 0

    @classmethod
    def of(cls, name: str, config: KeyConfig) -> "Key":
        limits = Limits(config.rpm, config.tpm, config.concurrency)
        expires = config.expires.timestamp() if config.expires else math.inf
        return cls(name, frozenset(config.models), limits, config.admin, expires, config.priority)

    def may_use(self, names: Iterable[str]) -> bool:
        """Whether it may use the model that has these names."""
        return not self.models or not self.models.isdisjoint(names)

    def check_model(self, names: Iterable[str]) -> None:
        """Raises ModelNotAllowed. The first name is told."""
        named = tuple(names)
        if not self.may_use(named):
            raise ModelNotAllowed(f"this API key may not use the model {named[0]!r}", param="model")


class Keys:
    """All keys: those of the configuration, and the stored ones, which give way where both have a name or a secret."""

    def __init__(self, configured: Mapping[str, KeyConfig], stored: Mapping[str, KeyConfig] | None = None) -> None:
        configs = {**(stored or {}), **configured}
        ordered = sorted(configs, key=configured.__contains__)
        self._by_fingerprint = {configs[name].sha256: Key.of(name, configs[name]) for name in ordered}
        self.has_admin = any(config.admin for config in configs.values())

    def __len__(self) -> int:
        return len(self._by_fingerprint)

    def find(self, fingerprint: str, now: float) -> Key:
        """The key with this SHA-256 in hex; `now` in seconds since the epoch. Raises InvalidApiKey."""
        key = self._by_fingerprint.get(fingerprint)
        if key is None:
            raise InvalidApiKey("this API key is not known")
        if now >= key.expires:
            raise InvalidApiKey("this API key has expired")
        return key
