"""llamaproxy.toml: what is written is read again, whatever stands in it."""

import tomllib
from typing import Any

import pytest
from pydantic import SecretStr

from llamaproxy import toml


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
