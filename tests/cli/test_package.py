"""llamaproxy.cli: the parser, the exit codes, and who imports what."""

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from llamaproxy import cli

HEAVY = {
    *("aiohttp", "asyncio", "pydantic", "pydantic_settings", "uvloop", "tomlkit", "shtab", "psutil", "orjson", "yaml"),
    *("platformdirs", "sqlite3", "logging", "subprocess", "concurrent", "multiprocessing", "inspect", "dataclasses"),
}
NO_VERBS = {"checks", "client", "editing", "notify", "table", "terminal", "units", "verbs"}
CLIENT_VERBS = (
    *("--help", "version", "status", "ps --json", "models", "start a", "stop all", "restart a --dry-run", "pin a"),
    *("unpin a", "reload", "health", "keys list", "keys usage", "keys revoke a", "logs", "logs a --follow"),
)


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


def imported(argv: list[str]) -> set[str]:
    """What a process has imported after a verb, by the names of packages, and of the gateway's own modules."""
    code = (
        f"import sys, llamaproxy.cli\ntry: llamaproxy.cli.main({argv!r})\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    environment = {**os.environ, "LLAMAPROXY_URL": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("words", CLIENT_VERBS)
def test_verbs_that_ask_a_gateway_import_nothing_heavy(words: str) -> None:
    """Importing takes longer than asking. Without a gateway they come as far as asking."""
    found = imported(words.split())
    assert not found & HEAVY
    assert not [name for name in found if name.startswith(("llamaproxy.server", "llamaproxy.backends"))]


def test_the_address_is_found_without_anything_heavy(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[server]\nport = 9\n")
    assert not imported(["status", "--config", str(file)]) & HEAVY


def test_a_reader_who_leaves_is_no_fault_to_explain() -> None:
    command = f"{sys.executable} -m llamaproxy completion zsh | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("#", "")


def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a shell, where `$LP` is the command."""
    told = {**os.environ, "LP": f"{sys.executable} -m llamaproxy", **environment}
    return subprocess.run(["bash", "-c", script], env=told, capture_output=True, text=True, timeout=60)


def test_an_interruption_before_the_verb_runs_is_silent() -> None:
    """While libraries are imported it would end in their tracebacks."""
    interrupt = "importlib.import_module = lambda name: os.kill(os.getpid(), signal.SIGINT)"
    code = f"import importlib, os, signal\nfrom llamaproxy import cli\n{interrupt}\ncli.main(['version'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_an_interruption_that_is_ignored_stays_so() -> None:
    """As for whatever a script runs in the background."""
    interrupt = "importlib.import_module = lambda name: os.kill(os.getpid(), signal.SIGINT) or importlib"
    code = f"import importlib, os, signal\nfrom llamaproxy import cli\n{interrupt}\ncli.main(['version'])"
    done = run(f"trap '' INT; {sys.executable} -c \"$CODE\"; echo $?", CODE=code)
    assert "has no attribute 'run'" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_a_stream_that_is_closed_takes_everything(closed: str) -> None:
    done = run(f"$LP version {closed}; echo $?")
    assert (done.stdout.splitlines()[-1], done.stderr) == ("0", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_a_full_disk_is_one_line() -> None:
    done = run("$LP version > /dev/full; echo $?")
    assert (done.stdout, done.stderr) == ("1\n", "llamaproxy: cannot write: No space left on device\n")


def test_letters_that_a_terminal_does_not_have_are_spelled_out() -> None:
    done = run("$LP bench --help", PYTHONIOENCODING="ascii")
    assert (done.returncode, r"N,\u2026" in done.stdout) == (0, True)


def test_a_pipe_that_breaks_under_a_verb_that_reads_files_is_no_fault(tmp_path: Path) -> None:
    done = run(f"cd {tmp_path}; $LP config show | true; echo $PIPESTATUS", HOME=str(tmp_path))
    assert (done.stdout, done.stderr) == ("1\n", "")
