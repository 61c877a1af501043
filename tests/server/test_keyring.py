"""llamaproxy.server.keyring: keys that come and go while the gateway runs."""

import asyncio
import base64
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llamaproxy.config import Config
from llamaproxy.errors import ConfigError, Conflict, InvalidApiKey, InvalidRequest, NotFound
from llamaproxy.models.catalogue import Catalogue
from llamaproxy.server import keyfile
from llamaproxy.server.current import Current
from llamaproxy.server.guard import fingerprint
from llamaproxy.server.keyring import Keyring, new_key
from tests.server.test_guard import fields


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def made(path: Path, **sections: Any) -> tuple[Keyring, Current]:
    current = Current(Config.model_validate({"server": {"keys_file": str(path)}, **sections}), Catalogue([]))
    return Keyring(current), current


def _text(path: Path) -> str:
    return path.read_text()


def _break(path: Path) -> None:
    path.write_text("{")


def owner(current: Current, secret: str) -> str | None:
    key = current.guard.check("GET", "/v1/models", fields(X_Api_Key=secret))
    return key.name if key else None


async def test_a_new_key_is_good_at_once_and_after_a_restart(path: Path) -> None:
    keyring, current = made(path)
    secret, name, _ = await keyring.create({"name": "bob", "rpm": 5})
    assert (owner(current, secret), name) == ("bob", "bob")
    written = _text(path)
    assert secret not in written
    assert fingerprint(secret) in written
    _, later = made(path)
    assert owner(later, secret) == "bob"


async def test_a_revoked_key_is_refused_at_once_and_after_a_restart(path: Path) -> None:
    keyring, current = made(path)
    secret, _, _ = await keyring.create({"name": "bob"})
    await keyring.create({"name": "carol"})
    await keyring.revoke("bob")
    for each in (current, made(path)[1]):
        with pytest.raises(InvalidApiKey):
            owner(each, secret)


async def test_a_key_is_revoked_although_its_client_leaves(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring, current = made(path)
    secret, _, _ = await keyring.create({"name": "bob"})
    await keyring.create({"name": "carol"})
    change, begun, may_end = keyfile.change, threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Any:
        begun.set()
        may_end.wait()
        return change(*arguments)

    monkeypatch.setattr(keyfile, "change", slow)
    revoking = asyncio.get_running_loop().create_task(keyring.revoke("bob"))
    await asyncio.to_thread(begun.wait)
    revoking.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await revoking
    with pytest.raises(InvalidApiKey):
        owner(current, secret)


async def test_keys_made_at_once_are_all_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to be written may be the last to be heard of."""
    keyring, current = made(path)
    change, first_written, second_written = keyfile.change, threading.Event(), threading.Event()

    def late(path: Path, alter: Any) -> Any:
        stored = change(path, alter)
        if "carol" in stored:
            second_written.set()
        else:
            first_written.set()
            second_written.wait()
        return stored

    monkeypatch.setattr(keyfile, "change", late)
    first = asyncio.get_running_loop().create_task(keyring.create({"name": "bob"}))
    await asyncio.to_thread(first_written.wait)
    secret, _, _ = await keyring.create({"name": "carol"})
    await first
    assert owner(current, secret) == "carol"


async def test_one_gateway_hears_of_anothers_changes_when_it_reloads(path: Path) -> None:
    (one, _), (other, current) = made(path), made(path)
    secret, _, _ = await one.create({"name": "bob"})
    assert owner(current, secret) is None
    other.refresh()
    assert owner(current, secret) == "bob"
    await other.revoke("bob")


async def test_a_broken_file_changes_nothing(path: Path) -> None:
    keyring, current = made(path)
    secret, _, _ = await keyring.create({"name": "bob"})
    _break(path)
    for attempt in (keyring.create({"name": "carol"}), keyring.revoke("bob")):
        with pytest.raises(ConfigError):
            await attempt
    with pytest.raises(ConfigError):
        keyring.refresh()
    assert owner(current, secret) == "bob"


async def test_keys_of_the_configuration_are_not_to_be_changed_here(path: Path) -> None:
    keyring, _ = made(path, keys={"alice": {"sha256": "0" * 64}})
    with pytest.raises(InvalidRequest, match=r"\[keys\.alice\]"):
        await keyring.revoke("alice")
    with pytest.raises(Conflict, match="already"):
        await keyring.create({"name": "alice"})
    assert keyfile.read(path) == {}


async def test_names_are_there_once(path: Path) -> None:
    keyring, _ = made(path)
    await keyring.create({"name": "bob"})
    with pytest.raises(Conflict, match="already"):
        await keyring.create({"name": "bob"})
    with pytest.raises(NotFound):
        await keyring.revoke("nobody")


async def test_the_last_admin_key_stays_as_long_as_there_are_others(path: Path) -> None:
    """On this machine the others could do everything without it; elsewhere nobody could do anything."""
    keyring, _ = made(path)
    await keyring.create({"name": "root", "admin": True})
    await keyring.create({"name": "bob"})
    with pytest.raises(InvalidRequest, match="last"):
        await keyring.revoke("root")
    await keyring.create({"name": "root2", "admin": True})
    await keyring.revoke("root")
    await keyring.revoke("bob")
    await keyring.revoke("root2")


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({}, "name"),
        ({"name": 5}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a\n[server]"}, "name"),
        ({"name": "a", "sha256": "0" * 64}, "sha256"),
        ({"name": "a", "created_at": "2020-01-01T00:00:00Z"}, "created_at"),
        ({"name": "a", "rpm": 0}, "rpm"),
        ({"name": "a", "tpm": True}, "tpm"),
        ({"name": "a", "tpm": "many"}, "tpm"),
        ({"name": "a", "concurrency": 1e99}, "concurrency"),
        ({"name": "a", "models": [5]}, "models"),
        ({"name": "a", "admin": "perhaps"}, "admin"),
        ({"name": "a", "expires": "soon"}, "expires"),
        ({"name": "a", "expires": "2020-01-01T00:00:00Z"}, "expires"),
        ({"name": "a", "expires": "2030-01-01T00:00:00"}, "expires"),
        ({"name": "a", "expires": "0s"}, "expires"),
        ({"name": "a", "expires": "9999999999999d"}, "expires"),
        ({"name": "a", "rpn": 5}, "rpn"),
    ],
)
def test_what_makes_no_key(wanted: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        new_key(wanted)
    assert caught.value.param == param


def test_rules_of_a_new_key() -> None:
    rules = {"models": ["m"], "rpm": 1, "tpm": 2, "concurrency": 3, "priority": 4, "admin": True}
    _, name, key = new_key({"name": "team/a", **rules})
    assert name == "team/a"
    assert key.model_dump(include=set(rules)) == {**rules, "models": ("m",)}


def test_an_expiry_from_now_or_at_a_time() -> None:
    _, _, key = new_key({"name": "a", "expires": "30d"})
    assert key.expires
    assert abs(key.expires - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=5)
    _, _, key = new_key({"name": "a", "expires": "2999-01-01T01:00:00+01:00"})
    assert key.expires == datetime(2999, 1, 1, tzinfo=UTC)
    assert new_key({"name": "a", "expires": None})[2].expires is None


def test_a_key_has_160_random_bits() -> None:
    secrets = {new_key({"name": "a"})[0] for _ in range(20)}
    assert len(secrets) == 20
    for secret in secrets:
        prefix, _, random = secret.partition("-")
        assert prefix == "lp"
        assert len(base64.b32decode(random.upper())) == 20
