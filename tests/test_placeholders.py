"""llamaproxy.placeholders: which there are, and what becomes of them."""

import pytest

from llamaproxy.placeholders import NAMES, fill, named


def test_every_name_is_found_wherever_it_stands() -> None:
    assert named(["--host=${socket}", "${name}${api_key}", "127.0.0.1:${port}"]) == set(NAMES)
    assert named(["serve", "$port", "${", "}", "$(port)"]) == set()


@pytest.mark.parametrize("word", ["${PORT}", "${}", "${port }", "x${home}y", "${\x1b[31m}"])
def test_any_other_is_a_mistake_that_is_named(word: str) -> None:
    with pytest.raises(ValueError, match=r"^\$\{[ -~]*\} is no placeholder; there are \$\{port\}, \$\{socket\},"):
        named([word])


def test_values_are_put_in_once_and_stay_one_word() -> None:
    values = {"port": "9000", "name": "${port} $(rm) \\1"}
    assert fill("a ${port}${port} b", values) == "a 90009000 b"
    assert fill("${name}", values) == "${port} $(rm) \\1"


def test_a_placeholder_without_a_value_is_not_passed_over() -> None:
    with pytest.raises(KeyError):
        fill("${socket}", {"port": "1"})
