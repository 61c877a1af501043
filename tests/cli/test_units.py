"""llamaproxy.cli.units: what service managers read, and that they can."""

import plistlib
import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from llamaproxy.cli.units import Service, launchd_plist, systemd_unit
from llamaproxy.errors import ConfigError

HOSTILE = ["plain", "with blank", "50%n", "$HOME", 'quo"te', "back\\slash", "ümlaut", "a'b"]


def service(*command: str, directory: str = "/srv/llm", path: str = "/usr/bin") -> Service:
    return Service(command or ("/usr/bin/python3", "serve"), PurePosixPath(directory), {"PATH": path}, 75.0)


def lines(unit: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)


class TestSystemd:
    def test_what_it_promises(self) -> None:
        told = lines(systemd_unit(service()))
        assert told["Type"] == "notify"
        assert float(told["WatchdogSec"]) > 0
        assert (told["KillMode"], told["RestartPreventExitStatus"]) == ("mixed", "2 78")
        assert told["ExecReload"] == "/bin/kill -HUP $MAINPID"
        assert told["TimeoutStopSec"] == "75"
        assert "PrivateDevices" not in told

    def test_paths_mean_themselves(self) -> None:
        unit = systemd_unit(service("/opt/a b/50%/py", "--config", '/etc/$x "q" \\.toml', directory="/srv/50% b"))
        told = lines(unit)
        assert told["ExecStart"] == r'"/opt/a b/50%%/py" "--config" "/etc/$$x \"q\" \\.toml"'
        assert told["WorkingDirectory"] == "/srv/50%% b"

    @pytest.mark.parametrize("bad", ["a\nExecStartPre=/bin/sh", "a\0", "\x1b[2J"])
    def test_no_line_can_be_put_in(self, bad: str) -> None:
        for made in (service(bad), service("/x", bad), service(directory=bad), service(path=bad)):
            with pytest.raises(ConfigError, match="control character"):
                systemd_unit(made)

    @pytest.mark.parametrize("program", ["/a'b/python", '/a"b', "/a\\b"])
    def test_programs_that_systemd_does_not_start(self, program: str) -> None:
        with pytest.raises(ConfigError, match="quote or backslash"):
            systemd_unit(service(program))

    @pytest.mark.parametrize("name", HOSTILE)
    def test_systemd_finds_no_fault_with_it(self, name: str, tmp_path: Path) -> None:
        if not (analyze := shutil.which("systemd-analyze")):
            pytest.skip("systemd is not here")
        folder = tmp_path / name
        folder.mkdir()
        program = folder / "python" if not re.search(r"""['"\\]""", name) else tmp_path / "python"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        unit = tmp_path / "llamaproxy.service"
        made = service(str(program), "--config", f"/etc/{name}", directory=str(folder), path=f"/{name}")
        unit.write_text(systemd_unit(made))
        verify = [analyze, "--user", "verify", "--man=no", str(unit)]
        environment = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(verify, env=environment, capture_output=True, text=True, timeout=60)
        assert [line for line in done.stderr.splitlines() if "llamaproxy.service" in line] == []


class TestLaunchd:
    def test_it_is_read_as_it_was_meant(self) -> None:
        command = ("/opt/a b/python", "--config", "/etc/<&>.toml")
        told = plistlib.loads(launchd_plist(service(*command), PurePosixPath("/l/llamaproxy.log")))
        assert told["ProgramArguments"] == list(command)
        assert (told["Label"], told["RunAtLoad"], told["KeepAlive"]) == ("llamaproxy", True, True)
        assert (told["WorkingDirectory"], told["EnvironmentVariables"]) == ("/srv/llm", {"PATH": "/usr/bin"})
        assert told["SoftResourceLimits"]["NumberOfFiles"] > 256
        assert (told["ExitTimeOut"], told["StandardErrorPath"]) == (75, "/l/llamaproxy.log")
