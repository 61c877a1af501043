"""What is in force changes as a whole."""

from llamaproxy.config import Config, KeyConfig
from llamaproxy.models.catalogue import Catalogue
from llamaproxy.server.current import Current
from llamaproxy.server.guard import fingerprint
from tests.server.test_guard import fields


def test_guard_follows_the_configuration() -> None:
    current = Current(Config(), Catalogue([]))
    holder = current
    assert not current.guard.allows_origin("https://chat.example.com")
    allowing = Config.model_validate({"server": {"allowed_origins": ["https://chat.example.com"]}})
    current.replace(allowing, catalogue := Catalogue([]))
    assert holder.config is allowing
    assert holder.catalogue is catalogue
    assert holder.guard.allows_origin("https://chat.example.com")


def test_stored_keys_stay_until_there_are_others() -> None:
    current = Current(Config(), Catalogue([]))
    stored = {"bob": KeyConfig(sha256=fingerprint("lp-bob"))}
    current.replace(current.config, current.catalogue, stored)
    current.replace(Config(), Catalogue([]))
    assert current.stored_keys == stored
    assert current.guard.check("GET", "/v1/models", fields(X_Api_Key="lp-bob"))
    current.replace(current.config, current.catalogue, {})
    assert current.guard.check("GET", "/v1/models", fields()) is None


def test_what_every_request_asks_for_follows_the_configuration() -> None:
    current = Current(Config(), Catalogue([]))
    server = {"base_path": "/llm", "max_body": 1024, "body_timeout": 3}
    current.replace(Config.model_validate({"server": server}), current.catalogue)
    assert (current.base_path, current.max_body, current.body_timeout) == ("/llm", 1024, 3)
