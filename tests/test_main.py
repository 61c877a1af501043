"""llamaproxy.__main__: `python -m llamaproxy` is the command."""

import runpy
import subprocess
import sys

import pytest

from llamaproxy import __version__


def test_it_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llamaproxy", "version"], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"llamaproxy {__version__}\n", "")


def test_its_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaproxy.cli.main", lambda: 78)
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("llamaproxy", run_name="__main__")
    assert caught.value.code == 78


def test_importing_it_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaproxy.cli.main", lambda: pytest.fail("it ran"))
    runpy.run_module("llamaproxy.__main__", run_name="llamaproxy.__main__")
