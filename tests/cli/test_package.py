"""llamaproxy.cli: the parser, the exit codes, and who imports what."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llamaproxy import cli

HEAVY = ("aiohttp", "pydantic", "pydantic_settings", "uvloop", "orjson")


NO_VERBS = {"client", "table"}


def modules() -> dict[str, str]:
    """The module of each verb; some have one together."""
    (action,) = (action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
    return {verb: parser.get_default("module") or verb.replace("-", "_") for verb, parser in action.choices.items()}


def verbs() -> list[str]:
    return list(modules())


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_a_module(verb: str) -> None:
    assert callable(importlib.import_module(f"llamaproxy.cli.{modules()[verb]}").run)


def test_every_module_is_a_verb() -> None:
    found = Path(str(cli.__file__)).parent.glob("[!_]*.py")
    assert {module.stem for module in found} - NO_VERBS == set(modules().values())


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([verb, "--help"])
    assert caught.value.code == 0
    assert f"llamaproxy {verb}" in capsys.readouterr().out
    assert verb in cli.parser().format_help()


@pytest.mark.parametrize("argv", [[], ["no-such-verb"], ["serve", "--port", "many"], ["keys"], ["keys", "create"]])
def test_wrong_use_is_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err[:6]) == ("", "usage:")


def test_defaults_of_the_flags_leave_the_configuration_alone() -> None:
    arguments = cli.parser().parse_args(["serve"])
    assert (arguments.config, arguments.host, arguments.port) == (None, None, None)


def test_flags() -> None:
    arguments = cli.parser().parse_args(["serve", "--config", "a.toml", "--host", "::1", "--port", "0"])
    assert (arguments.config, arguments.host, arguments.port) == (Path("a.toml"), "::1", 0)
    arguments = cli.parser().parse_args(["init"])
    assert (arguments.file, arguments.force) == (Path("llamaproxy.toml"), False)


@pytest.mark.parametrize("code", [0, 1, 78])
def test_the_verbs_exit_code_is_ours(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    verb = SimpleNamespace(run=lambda arguments: code)
    monkeypatch.setitem(sys.modules, "llamaproxy.cli.check_config", verb)
    assert cli.main(["check-config"]) == code


def test_an_interruption_has_its_own_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "llamaproxy.cli.version", SimpleNamespace(run=interrupted))
    assert cli.main(["version"]) == 130


def test_complaints_go_to_stderr_one_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    cli.complain("first\nsecond")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "llamaproxy: first\nllamaproxy: second\n")


def test_small_verbs_import_nothing_heavy() -> None:
    code = f"import sys, llamaproxy.cli; llamaproxy.cli.main(['version']); print({set(HEAVY)} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
