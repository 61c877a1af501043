"""What is in force changes as a whole."""

from llamaproxy.config import Config
from llamaproxy.models.catalogue import Catalogue
from llamaproxy.server.current import Current


def test_guard_follows_the_configuration() -> None:
    current = Current(Config(), Catalogue([]))
    holder = current
    assert not current.guard.allows_origin("https://chat.example.com")
    allowing = Config.model_validate({"server": {"allowed_origins": ["https://chat.example.com"]}})
    current.replace(allowing, catalogue := Catalogue([]))
    assert holder.config is allowing
    assert holder.catalogue is catalogue
    assert holder.guard.allows_origin("https://chat.example.com")
