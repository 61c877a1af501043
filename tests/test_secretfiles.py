"""llamaproxy.secretfiles: secrets that stand in files of their own, and which files hold none."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from llamaproxy import configfile, secretfiles
from llamaproxy.configfile import Source
from llamaproxy.effective import effective, shown_origins
from llamaproxy.errors import ConfigError
from llamaproxy.modelconfig import ModelConfig
from tests import nowhere
from tests.nowhere import told

API_KEY = "LLAMAPROXY_MODELS__FAR__API_KEY"
HASH = "LLAMAPROXY_KEYS__ROOT__SHA256"
GOOD_HASH = "0123456789abcdef" * 4
Keep = Callable[[bytes], Path]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere.go(tmp_path, monkeypatch)
    monkeypatch.setenv("LLAMAPROXY_MODELS__FAR__URL", "http://far.test")


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keep:
    """Writes the file, which the variable then names."""

    def keep(content: bytes) -> Path:
        path = tmp_path / "secret"
        path.write_bytes(content)
        monkeypatch.setenv(f"{API_KEY}_FILE", str(path))
        return path

    return keep


def api_key(source: Source | None = None) -> str:
    key = (source or Source()).load().models["far"].api_key
    assert key
    return key.get_secret_value()


class TestContent:
    @pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
    def test_one_line_end_is_none_of_it(self, keep: Keep, end: bytes) -> None:
        keep(b"sk-far" + end)
        assert api_key() == "sk-far"

    def test_two_are_too_many(self, keep: Keep) -> None:
        keep(b"sk-far\n\n")
        (fault,) = told(None)
        assert fault.startswith("models.far.api_key: ")

    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (b"", "empty"),
            (b"\n", "empty"),
            (b"sk-\xff", "not UTF-8"),
            (b"x" * (secretfiles.LARGEST + 1), "larger than 64 KiB"),
        ],
    )
    def test_what_holds_no_secret_names_variable_and_file(self, keep: Keep, content: bytes, fault: str) -> None:
        path = keep(content)
        assert told(None) == [f"{API_KEY}_FILE: {path}: {fault}"]

    def test_a_file_that_is_not_there(self, keep: Keep) -> None:
        path = keep(b"sk-far")
        path.unlink()
        assert told(None) == [f"{API_KEY}_FILE: {path}: No such file or directory"]

    def test_a_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(f"{API_KEY}_FILE", str(tmp_path))
        assert told(None) == [f"{API_KEY}_FILE: {tmp_path}: Is a directory"]

    def test_a_pipe_holds_nothing_up(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        os.mkfifo(pipe := tmp_path / "pipe")
        monkeypatch.setenv(f"{API_KEY}_FILE", str(pipe))
        assert told(None) == [f"{API_KEY}_FILE: {pipe}: not a regular file"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, keep: Keep) -> None:
        path = keep(b"sk-far")
        path.chmod(0)
        assert told(None) == [f"{API_KEY}_FILE: {path}: Permission denied"]

    def test_every_fault_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for variable in (API_KEY, HASH):
            monkeypatch.setenv(f"{variable}_FILE", "/nowhere")
        assert [line.partition(":")[0] for line in told(None)] == [f"{API_KEY}_FILE", f"{HASH}_FILE"]


class TestVariables:
    def test_hashes_of_keys(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "hash").write_text(f"{GOOD_HASH}\n")
        monkeypatch.setenv(f"{HASH}_FILE", str(tmp_path / "hash"))
        assert configfile.load(None).keys["root"].sha256 == GOOD_HASH

    def test_both_spellings_are_one_too_many(self, keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
        keep(b"sk-far")
        monkeypatch.setenv(API_KEY, "sk-other")
        assert told(None) == [f"{API_KEY} and {API_KEY}_FILE are both set; one of them has to go"]

    @pytest.mark.parametrize(("value", "file"), [("", "secret"), ("sk-plain", "")])
    def test_an_empty_one_is_unset(
        self, keep: Keep, monkeypatch: pytest.MonkeyPatch, value: str, file: str, tmp_path: Path
    ) -> None:
        keep(b"sk-far")
        monkeypatch.setenv(API_KEY, value)
        monkeypatch.setenv(f"{API_KEY}_FILE", file and str(tmp_path / file))
        assert api_key() == (value or "sk-far")

    def test_it_wins_over_the_configuration_file(self, keep: Keep, tmp_path: Path) -> None:
        keep(b"sk-far")
        (file := tmp_path / "c.toml").write_text('[models.far]\napi_key = "sk-file"')
        assert api_key(Source(file)) == "sk-far"

    def test_what_is_no_secret_is_not_read_from_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_SERVER__PORT_FILE", "/run/port")
        assert told(None)[0].startswith("LLAMAPROXY_SERVER__PORT_FILE: unknown setting")

    def test_an_engines_own_variables_end_as_they_like(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLAMAPROXY_ENGINE__ENV__API_KEY_FILE", "/run/key")
        assert configfile.load(None).engine.env == {"API_KEY_FILE": "/run/key"}

    def test_every_secret_of_a_model_is_among_them(self) -> None:
        fields = ModelConfig.model_fields.items()
        secrets = {("models", key) for key, field in fields if SecretStr in getattr(field.annotation, "__args__", ())}
        assert secrets <= set(secretfiles.SECRETS)


class TestSource:
    def test_it_is_read_again(self, keep: Keep) -> None:
        keep(b"sk-old")
        source = Source()
        assert api_key(source) == "sk-old"
        before = source.signature()
        keep(b"sk-newer")
        assert source.signature() != before
        assert api_key(source) == "sk-newer"

    def test_its_origin_is_the_file_and_its_content_is_not_shown(
        self, keep: Keep, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = keep(b"sk-hidden")
        source = Source()
        with caplog.at_level(logging.DEBUG):
            values = effective(source.load())
        origins = shown_origins(values, source.origins)["models"]["far"]
        assert (origins["api_key"], origins["url"]) == (f"file {path}", "environment")
        assert "sk-hidden" not in f"{values}{caplog.text}"

    def test_a_fault_holds_nothing_of_it(self, keep: Keep) -> None:
        keep(b"sk-hidden and more")
        with pytest.raises(ConfigError) as caught:
            Source().load()
        assert "sk-hidden" not in caught.value.message
