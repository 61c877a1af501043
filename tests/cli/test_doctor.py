"""llamaproxy.cli.doctor: everything is looked at, and scripts can tell whether something is broken."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from llamaproxy import cli, document
from llamaproxy.cli import doctor, terminal
from llamaproxy.cli.checks import Finding, Level
from tests.gateway import EMPTY_GGUF, GatewayProcess

CHECKS = {"config", "engine", "models", "ports", "gpu", "database", "folders", "descriptors", "clock"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file and no variable of this machine, and an engine that tells its version."""
    for variable in list(os.environ):
        if variable.startswith("LLAMAPROXY_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(document, "user_file", lambda: tmp_path / "none.toml")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho version: 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("LLAMAPROXY_ENGINE__BINARY", str(program))
    monkeypatch.setenv("LLAMAPROXY_SERVER__PORT", "0")


def test_everything_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.gguf").write_bytes(EMPTY_GGUF)
    (tmp_path / "llamaproxy.toml").write_text('[models.m]\npath = "m.gguf"\n')
    assert cli.main(["doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema_version"], told["ok"]) == (1, True)
    assert {finding["check"] for finding in told["findings"]} == CHECKS


def test_what_is_broken_comes_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "llamaproxy.toml").write_text('[models.m]\npath = "gone\\u001b.gguf"\n')
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "broken  models" in out
    assert "\n  see to models.m.path" in out
    assert "\x1b" not in out


def test_a_configuration_that_cannot_be_used_hides_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "llamaproxy.toml").write_text("[server]\nprot = 1\n")
    assert cli.main(["doctor", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["ok"], "did you mean port?" in told["findings"][0]["message"]) == (False, True)
    assert {finding["check"] for finding in told["findings"]} == {"config", "descriptors", "clock"}


async def test_a_port_that_the_gateway_itself_has_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with GatewayProcess(tmp_path, {}).running() as gateway:
        monkeypatch.setenv("LLAMAPROXY_SERVER__PORT", gateway.url.rpartition(":")[2])
        await asyncio.to_thread(cli.main, ["doctor", "--json"])
        findings = json.loads(capsys.readouterr().out)["findings"]
        (port,) = (finding for finding in findings if finding["check"] == "ports")
        assert (port["level"], "a gateway runs" in port["message"]) == ("ok", True)


def test_on_a_terminal_messages_are_as_wide_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left out, and no path is broken."""
    findings = [Finding("gpu", Level.WARNING, "no driver is installed here at all"), Finding("a", Level.OK, "/x" * 30)]
    monkeypatch.setattr(terminal, "width", lambda: 38)
    assert doctor._text(findings).splitlines() == [
        "LEVEL    CHECK  FOUND",
        "warning  gpu    no driver is installed",
        "                here at all",
        f"ok       a      {'/x' * 30}",
    ]
