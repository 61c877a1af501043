"""llamaproxy.cli.check_config: what is effective, without its secrets, or what is wrong."""

import json
import os
from pathlib import Path

import pytest

from llamaproxy import cli, document
from llamaproxy.backends import engine
from llamaproxy.backends.engine import Engine
from llamaproxy.config import Config
from llamaproxy.errors import EngineMissing

GOOD_HASH = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no variable and no engine of this machine."""
    for variable in list(os.environ):
        if variable.startswith("LLAMAPROXY_"):
            monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(document, "user_file", lambda: tmp_path / "user.toml")
    monkeypatch.setattr(engine, "find", lambda binary: Engine("llama-server", ("/opt/llama-server",)))


def check(path: Path | None, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, list[str]]:
    """Exit code, stdout and the lines on stderr."""
    code = cli.main(["check-config", *(["--config", str(path)] if path else [])])
    out, err = capsys.readouterr()
    return code, out, [line.removeprefix("llamaproxy: ") for line in err.splitlines()]


def test_without_a_file_the_defaults_are_effective(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, lines = check(None, capsys)
    assert code == 0
    assert json.loads(out) == json.loads(Config().model_dump_json())
    assert lines == ["good: no file, defaults and environment only", "engine: llama-server, /opt/llama-server"]


def test_a_good_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "good.toml"
    path.write_text('[server]\nport = 9000\n[models.qwen]\npath = "q.gguf"\nttl = "5m"')
    monkeypatch.setenv("LLAMAPROXY_SERVER__MAX_BODY", "1MiB")
    code, out, lines = check(path, capsys)
    values = json.loads(out)
    assert (code, lines[0]) == (0, f"good: {path}")
    assert (values["server"]["port"], values["server"]["max_body"]) == (9000, 1024**2)
    assert values["models"]["qwen"]["ttl"] == 300


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("[server]\nprot = 1", ["server.prot: unknown key, did you mean port?"]),
        (
            '[server]\nport = -1\n[limits]\nmodels_max = "x"',
            [
                "server.port: Input should be greater than or equal to 0, not -1",
                "limits.models_max: Input should be a valid integer, unable to parse string as an integer, not 'x'",
            ],
        ),
        (
            '[server]\nhost = "0.0.0.0"',
            [
                "server.host: 0.0.0.0 can be reached from other machines, and no key is configured; "
                "`llamaproxy keys create NAME` makes one"
            ],
        ),
        ('[engine]\nargs = ["--tools", "all"]', None),
        ('[models.qwen]\npath = "q.gguf"\nargs = ["--rpc", "host:1"]', None),
    ],
)
def test_a_bad_one(text: str, lines: list[str] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    code, out, told = check(path, capsys)
    assert (code, out) == (78, "")
    assert told == lines if lines else "is refused" in told[0]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, lines = check(tmp_path / "missing.toml", capsys)
    assert (code, out) == (78, "")
    assert "no such configuration file" in lines[0]


def test_a_missing_engine_is_worth_a_word_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(binary: str) -> Engine:
        raise EngineMissing("no llama-server was found")

    monkeypatch.setattr(engine, "find", missing)
    code, _, lines = check(None, capsys)
    assert (code, lines[1]) == (0, "engine: no llama-server was found")


class TestForPrograms:
    def test_a_good_one(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (path := tmp_path / "good.toml").write_text("[server]\nport = 9000")
        assert cli.main(["check-config", "--json", "--config", str(path)]) == 0
        out, err = capsys.readouterr()
        told = json.loads(out)
        assert (told["schema_version"], told["ok"], told["faults"], told["file"]) == (1, True, [], str(path))
        assert told["engine"] == "llama-server, /opt/llama-server"
        assert (told["config"]["server"]["port"], err) == (9000, "")

    def test_a_bad_one(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (path := tmp_path / "bad.toml").write_text("[server]\nprot = 1")
        assert cli.main(["check-config", "--json", "--config", str(path)]) == 78
        faults = ["server.prot: unknown key, did you mean port?"]
        assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "ok": False, "faults": faults}


def test_numbers_of_any_size_that_is_allowed_can_be_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLAMAPROXY_SERVER__MAX_BODY", str(2**53))
    monkeypatch.setenv("LLAMAPROXY_ENGINE__STOP_TIMEOUT", "9" * 300)
    code, out, _ = check(None, capsys)
    assert (code, json.loads(out)["server"]["max_body"]) == (0, 2**53)
