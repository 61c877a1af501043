"""llamaproxy.cli.init: a file to begin with, and never somebody's work overwritten."""

from pathlib import Path

import pytest

from llamaproxy import cli, configfile
from llamaproxy.cli import init

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def test_it_writes_the_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "my.toml"
    assert cli.main(["init", str(path)]) == 0
    assert path.read_bytes() == EXAMPLE.read_bytes()
    assert str(path) in capsys.readouterr().out


def test_without_a_name_it_is_the_one_that_serve_looks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init"]) == 0
    assert Path("llamaproxy.toml").is_file()


def test_it_overwrites_only_when_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("# mine")
    assert cli.main(["init", str(path)]) == 5
    assert path.read_text() == "# mine"
    out, err = capsys.readouterr()
    assert (out, "--force" in err) == ("", True)
    assert cli.main(["init", str(path), "--force"]) == 0
    assert path.read_bytes() == EXAMPLE.read_bytes()


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, told in ((tmp_path / "no" / "folder.toml", "No such file or directory"), (tmp_path, "Is a directory")):
        assert cli.main(["init", "--force", str(place)]) == 1
        assert capsys.readouterr().err == f"llamaproxy: {place}: {told}\n"


def test_the_example_is_at_hand_before_a_file_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("# mine")
    monkeypatch.setattr(init, "_PLACES", ())
    with pytest.raises(StopIteration):
        cli.main(["init", str(path), "--force"])
    assert path.read_text() == "# mine"


def test_the_installed_example_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed, repository = tmp_path / "installed.toml", tmp_path / "repository.toml"
    repository.write_text("# repository")
    monkeypatch.setattr(init, "_PLACES", (installed, repository))
    assert init.example() == "# repository"
    installed.write_text("# installed")
    assert init.example() == "# installed"


def test_presets_of_llama_server_are_taken_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    presets = tmp_path / "presets.ini"
    presets.write_text("[qwen]\nmodel = /models/qwen.gguf\nctx-size = 4096\nrpc = host:1\n")
    target = tmp_path / "mine.toml"
    assert cli.main(["init", str(target), "--from", str(presets)]) == 0
    model = configfile.load(target).models["qwen"]
    assert (model.path, model.ctx_size, model.args) == ("/models/qwen.gguf", 4096, ())
    assert "rpc" in capsys.readouterr().err, "what is not taken over is named"


def test_configuration_of_llama_swap_is_taken_over(tmp_path: Path) -> None:
    swap = tmp_path / "config.yaml"
    swap.write_text(
        "models:\n  qwen:\n    cmd: llama-server --port ${PORT} -m /models/qwen.gguf -c 4096\n    ttl: 60\n"
    )
    target = tmp_path / "mine.toml"
    assert cli.main(["init", str(target), "--from", str(swap)]) == 0
    model = configfile.load(target).models["qwen"]
    assert (model.path, model.ctx_size, model.ttl) == ("/models/qwen.gguf", 4096, 60)


@pytest.mark.parametrize("name", ["presets.txt", "gone.ini"])
def test_what_cannot_be_taken_over_is_told_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "presets.txt").write_text("")
    target = tmp_path / "mine.toml"
    assert cli.main(["init", str(target), "--from", str(tmp_path / name)]) == 78
    assert not target.exists()
