"""llamaproxy.cli.keys: a key that nobody can guess, and the lines that configure it."""

import base64
import hashlib
import tomllib

import pytest

from llamaproxy import cli
from llamaproxy.config import Config


def create(name: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The key and the configuration for it."""
    assert cli.main(["keys", "create", name]) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 1
    return out.strip(), err


@pytest.mark.parametrize("name", ["alice", "ci-bot_2", "team.web", "me@example.com", "org/app:1"])
def test_the_lines_configure_the_key(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    secret, lines = create(name, capsys)
    keys = Config.model_validate(tomllib.loads(lines)).keys
    assert list(keys) == [name]
    assert keys[name].sha256 == hashlib.sha256(secret.encode()).hexdigest()


def test_a_key_has_160_random_bits(capsys: pytest.CaptureFixture[str]) -> None:
    made = {create("alice", capsys)[0] for _ in range(20)}
    assert len(made) == 20
    for secret in made:
        prefix, _, random = secret.partition("-")
        assert prefix == "lp"
        assert len(base64.b32decode(random.upper())) == 20


def test_the_key_itself_is_not_in_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    secret, lines = create("alice", capsys)
    assert secret not in lines


@pytest.mark.parametrize("name", ["", "a b", 'a"]\n[server', "-a", "a/../b", "\x1b[31m", "x" * 129], ids=ascii)
def test_a_name_that_configuration_would_refuse_makes_no_key(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["keys", "create", "--", name]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.strip().isprintable()
