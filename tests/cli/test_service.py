"""llamaproxy.cli.service: files of service managers, and what those are asked.

The manager is a program of its own on PATH, which writes down what it is asked.
"""

import json
import os
import plistlib
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llamaproxy import cli, document
from llamaproxy.cli import service

Asked = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has nothing yet."""
    for variable in list(os.environ):
        if variable.startswith("LLAMAPROXY_"):
            monkeypatch.delenv(variable)
    monkeypatch.setattr(document, "user_file", lambda: tmp_path / "none.toml")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(home: Path) -> Asked:
    """What systemctl and launchctl were asked; they fail while there is a file `broken`."""
    (home / "bin").mkdir()
    for name in ("systemctl", "launchctl"):
        program = home / "bin" / name
        program.write_text(
            f'#!/bin/sh\necho "{name} $*" >> "{home}/asked"\necho "ActiveState=active"\n'
            f'if [ -e "{home}/broken" ]; then echo "no bus" >&2; exit 1; fi\n'
        )
        program.chmod(0o755)
    return lambda: (home / "asked").read_text().splitlines() if (home / "asked").exists() else []


@pytest.fixture
def macos(monkeypatch: pytest.MonkeyPatch) -> None:
    made = service.manager
    monkeypatch.setattr(service, "manager", lambda: made("darwin"))


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    made = service.manager
    monkeypatch.setattr(service, "manager", lambda: made("linux"))


@pytest.mark.usefixtures("linux")
class TestSystemd:
    def test_from_install_to_uninstall(self, home: Path, asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
        file = home / "config" / "systemd" / "user" / "llamaproxy.service"
        assert cli.main(["service", "status"]) == 4
        (home / "llamaproxy.toml").write_text("[server]\nport = 9000\n")
        assert cli.main(["service", "install"]) == 0
        unit = file.read_text()
        assert (
            f'ExecStart="{sys.executable}" "-P" "-m" "llamaproxy" "serve" "--config" "{home}/llamaproxy.toml"' in unit
        )
        assert f'Environment="PATH={home}/bin"' in unit
        capsys.readouterr()
        assert cli.main(["service", "status"]) == 0
        assert capsys.readouterr().out == f"File={file}\nActiveState=active\n"
        assert cli.main(["service", "uninstall"]) == 0
        assert not file.exists()
        assert cli.main(["service", "uninstall"]) == 4
        user, unit_name = "systemctl --user", "llamaproxy.service"
        properties = "--property=ActiveState,SubState,MainPID,StatusText,UnitFileState"
        assert asked() == [
            *(f"{user} daemon-reload", f"{user} enable {unit_name}", f"{user} restart {unit_name}"),
            f"{user} show {unit_name} {properties}",
            *(f"{user} disable --now {unit_name}", f"{user} daemon-reload"),
        ]

    def test_its_status_for_programs(self, home: Path, asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
        told = {"schema_version": 1, "manager": "systemd", "file": f"{home}/config/systemd/user/llamaproxy.service"}
        assert cli.main(["service", "status", "--json"]) == 4
        assert json.loads(capsys.readouterr().out) == {**told, "installed": False, "running": False}
        assert cli.main(["service", "install"]) == 0
        assert cli.main(["service", "status", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {**told, "installed": True, "running": True}

    def test_a_dry_run_does_nothing(self, home: Path, asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["service", "install", "--dry-run"]) == 0
        out = capsys.readouterr().out
        assert "Type=notify" in out
        assert out.endswith("# systemctl --user restart llamaproxy.service\n")
        assert (asked(), (home / "config").exists()) == ([], False)

    def test_a_configuration_that_cannot_be_served_is_not_installed(
        self, home: Path, asked: Asked, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (home / "llamaproxy.toml").write_text("[server]\nprot = 1\n")
        assert cli.main(["service", "install"]) == 78
        assert "did you mean port?" in capsys.readouterr().err
        assert (asked(), (home / "config").exists()) == ([], False)

    def test_a_manager_that_refuses_is_told(self, home: Path, asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
        (home / "broken").touch()
        assert cli.main(["service", "install"]) == 1
        assert "no bus" in capsys.readouterr().err

    def test_a_manager_that_is_not_there_is_told(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["service", "install"]) == 1
        assert "systemctl is not here" in capsys.readouterr().err

    def test_uninstalling_needs_no_manager(self, home: Path, asked: Asked) -> None:
        assert cli.main(["service", "install"]) == 0
        (home / "broken").touch()
        assert cli.main(["service", "uninstall"]) == 0
        assert cli.main(["service", "status"]) == 4

    def test_variables_that_are_left_behind_are_named(
        self, asked: Asked, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LLAMAPROXY_SERVER__PORT", "9000")
        assert cli.main(["service", "install"]) == 0
        assert "not taken over: LLAMAPROXY_SERVER__PORT" in capsys.readouterr().err

    def test_there_is_time_to_end(self, home: Path) -> None:
        (home / "llamaproxy.toml").write_text('[server]\ndrain_timeout = "5m"\n')
        assert service.service(None).stop_timeout > 300


@pytest.mark.usefixtures("macos")
def test_launchd(home: Path, asked: Asked) -> None:
    file = home / "Library" / "LaunchAgents" / "llamaproxy.plist"
    assert cli.main(["service", "install"]) == 0
    assert plistlib.loads(file.read_bytes())["ProgramArguments"][1:] == ["-P", "-m", "llamaproxy", "serve"]
    assert stat.S_IMODE(file.stat().st_mode) & 0o022 == 0
    assert cli.main(["service", "install"]) == 0
    assert cli.main(["service", "status"]) == 0
    assert cli.main(["service", "uninstall"]) == 0
    domain = f"gui/{os.getuid()}"
    assert asked() == [
        f"launchctl bootstrap {domain} {file}",
        *(f"launchctl bootout {domain}/llamaproxy", f"launchctl bootstrap {domain} {file}"),
        f"launchctl print {domain}/llamaproxy",
        f"launchctl bootout {domain}/llamaproxy",
    ]


def test_other_systems_are_told() -> None:
    with pytest.raises(service.Unmanaged, match="win32"):
        service.manager("win32")
