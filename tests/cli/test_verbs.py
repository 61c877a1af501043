"""llamaproxy.cli.verbs: the words, and what they mean when nothing more is said."""

from pathlib import Path

import pytest

from llamaproxy.cli.verbs import parser


def test_defaults_of_the_flags_leave_the_configuration_alone() -> None:
    arguments = parser().parse_args(["serve"])
    assert (arguments.config, arguments.host, arguments.port) == (None, None, None)


def test_flags() -> None:
    arguments = parser().parse_args(["serve", "--config", "a.toml", "--host", "::1", "--port", "0"])
    assert (arguments.config, arguments.host, arguments.port) == (Path("a.toml"), "::1", 0)
    arguments = parser().parse_args(["init"])
    assert (arguments.file, arguments.force) == (Path("llamaproxy.toml"), False)


@pytest.mark.parametrize(
    "argv",
    [
        *([], ["no-such-verb"], ["serve", "--port", "many"], ["keys"], ["keys", "create"], ["start"], ["config"]),
        *(["config", "add", "m"], ["completion", "cmd"], ["service", "install", "--now"]),
    ],
)
def test_wrong_use_is_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parser().parse_args(argv)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err[:6]) == ("", "usage:")
