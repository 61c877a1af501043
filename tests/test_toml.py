"""llamaproxy.toml: what is written is read again, whatever stands in it."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from llamaproxy import toml
from llamaproxy.errors import ConfigError


@pytest.mark.parametrize(
    "content",
    [
        0,
        -1,
        1.5,
        1e-07,
        1e300,
        True,
        False,
        "",
        "a",
        'q"\\',
        "a\nb\0c\x7f",
        "é\u202e😀",
        [],
        ["a", 1],
        {"a b": {"c": 1}},
    ],
    ids=repr,
)
def test_every_kind_of_value(content: Any) -> None:
    read = tomllib.loads("\n".join(toml.table("t", {"key": content, 'strange "key"': content})))
    assert read == {"t": {"key": content, 'strange "key"': content}}


def test_secrets_are_written_as_they_are() -> None:
    assert toml.value(SecretStr("x")) == '"x"'


def test_halves_of_characters_do_not_break_the_file() -> None:
    tomllib.loads(f"a = {toml.value('x' + chr(0xD800))}".encode().decode())


def test_a_file_is_read(tmp_path: Path) -> None:
    (path := tmp_path / "a.toml").write_text("\ufeffa = 1", "utf-8")
    assert toml.read(path) == {"a": 1}


@pytest.mark.parametrize("content", [b"a = ", b"\xff", b"a = 1\na = 2", b"a = " + b"[" * 20_000])
def test_what_cannot_be_read_is_told_with_its_path(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.toml: not"):
        toml.read(path)
