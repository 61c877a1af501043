"""llamaproxy.cli.config: what is configured, and changes of the file that are good or are not made."""

import json
import os
import stat
from pathlib import Path

import pytest

from llamaproxy import cli, configfile, document

TEXT = '# mine\n[models.a]\npath = "/a.gguf" # small\n[models.b]\nurl = "http://b"\napi_key = "hush"\n'


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in list(os.environ):
        if variable.startswith("LLAMAPROXY_"):
            monkeypatch.delenv(variable)
    path = tmp_path / "llamaproxy.toml"
    path.write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return path


def config(*words: str) -> int:
    return cli.main(["config", *words])


class TestLooking:
    def test_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert config("list") == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["NAME", "a", "b"]
        assert config("list", "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert [(model["name"], model["api_key"]) for model in told["models"]] == [("a", None), ("b", "***")]

    def test_show_says_where_values_come_from(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LLAMAPROXY_SERVER__PORT", "9000")
        assert config("show", "--origin") == 0
        lines = {line.split(" = ")[0]: line.split() for line in capsys.readouterr().out.splitlines()}
        assert lines["server.port"][2:] == ["9000", "#", "environment"]
        assert lines["server.host"][-1] == "default"
        assert lines["models.a.path"][-1] == "file"
        assert "hush" not in str(lines)

    def test_show_for_programs(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert config("show", "--json", "--origin") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["file"], told["config"]["server"]["port"]) == (file.name, 8080)
        assert told["origins"]["models"]["a"]["path"] == "file"
        assert config("show", "--json") == 0
        assert "origins" not in json.loads(capsys.readouterr().out)

    def test_what_cannot_be_used(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file.write_text("[server]\nprot = 1\n")
        assert config("show") == 78
        assert "did you mean port?" in capsys.readouterr().err


class TestChanging:
    def test_add_update_remove(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert config("add", "c:1", "path=/c.gguf", "ttl=5m") == 0
        assert config("update", "c:1", "pinned=true", "--unset", "ttl") == 0
        assert config("update", "--section", "server", "port=9000") == 0
        loaded = configfile.load(file)
        assert (loaded.models["c:1"].pinned, loaded.models["c:1"].ttl, loaded.server.port) == (True, None, 9000)
        assert config("remove", "c:1") == 0
        assert list(configfile.load(file).models) == ["a", "b"]
        assert file.read_text().startswith('# mine\n[models.a]\npath = "/a.gguf" # small\n')
        assert capsys.readouterr().out == ""

    @pytest.mark.parametrize(
        ("words", "code", "told"),
        [
            ("add a path=/x", 5, "already"),
            ("add c", 2, None),
            ("add c path", 2, "KEY=VALUE"),
            ("add c paht=/x", 78, "did you mean path?"),
            ("add c path=/x port=8080", 78, "already used by server.port"),
            ("add c path=/x args=--tools", 78, "is refused"),
            ("add c/../d path=/x", 78, "no part of a name"),
            ("update x ttl=1", 4, "no model 'x'"),
            ("update a", 2, "nothing to change"),
            ("update a --unset ttl", 4, "models.a.ttl"),
            ("update a url=http://x", 78, "exactly one of"),
            ("update --section limit x=1", 4, "no section"),
            ("update --section models a=1", 4, "no section"),
            ("remove x", 4, "models.x"),
        ],
    )
    def test_what_is_not_good_is_not_written(
        self, words: str, code: int, told: str | None, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        if told is None:
            with pytest.raises(SystemExit) as caught:
                config(*words.split())
            assert caught.value.code == code
        else:
            assert config(*words.split()) == code
            assert told in capsys.readouterr().err
        assert file.read_text() == TEXT
        assert os.listdir(file.parent) == [file.name]

    @pytest.mark.parametrize("models", ["1", '"abc"', "[]"])
    def test_models_that_are_no_table(self, file: Path, capsys: pytest.CaptureFixture[str], models: str) -> None:
        file.write_text(f"models = {models}\n")
        assert config("add", "a", "path=/a.gguf") != 0
        assert "by hand" in capsys.readouterr().err
        assert config("update", "a", "path=/a.gguf") != 0
        assert "no model 'a'" in capsys.readouterr().err
        assert config("remove", "a") != 0
        assert file.read_text() == f"models = {models}\n"

    def test_a_dry_run_shows_the_difference(self, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert config("update", "a", "path=/new.gguf", "--dry-run") == 0
        out = capsys.readouterr().out
        assert '-path = "/a.gguf" # small\n+path = "/new.gguf" # small\n' in out
        assert file.read_text() == TEXT

    def test_the_file_keeps_its_mode_and_a_link_stays_one(self, file: Path) -> None:
        file.chmod(0o640)
        link = file.with_name("link.toml")
        link.symlink_to(file)
        assert config("update", "a", "ttl=1", "--config", str(link)) == 0
        assert link.is_symlink()
        assert stat.S_IMODE(file.stat().st_mode) == 0o640
        assert configfile.load(file).models["a"].ttl == 1

    def test_a_folder_that_cannot_be_written(
        self, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied", str(file.parent))

        monkeypatch.setattr("tempfile.mkstemp", refuse)
        assert config("update", "a", "ttl=1") == 1
        assert "Permission denied" in capsys.readouterr().err
        assert file.read_text() == TEXT

    def test_without_a_file_there_is_nothing_to_change(
        self, file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file.unlink()
        monkeypatch.setattr(document, "user_file", lambda: file)
        assert config("add", "m", "path=/x") == 78
        assert "llamaproxy init" in capsys.readouterr().err
