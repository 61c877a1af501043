"""llamaproxy.document: which file is read, and what is said of one that cannot be."""

import os
from pathlib import Path

import pytest
from platformdirs import user_config_path

from llamaproxy import document
from llamaproxy.errors import ConfigError

_user_file = document.user_file
"""Before a fixture replaces it."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file and no variable of this machine."""
    monkeypatch.delenv(document.FILE_VARIABLE, raising=False)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr(document, "user_file", lambda: tmp_path / "user" / "llamaproxy.toml")


class TestFindFile:
    def test_no_file_is_fine(self) -> None:
        assert document.find_file(None, {}) is None

    def test_the_order(self, tmp_path: Path) -> None:
        flag, variable = tmp_path / "flag.toml", tmp_path / "variable.toml"
        user, here = tmp_path / "user" / "llamaproxy.toml", Path("llamaproxy.toml")
        environ = {"LLAMAPROXY_CONFIG": str(variable)}
        user.parent.mkdir(parents=True)
        user.touch()
        assert document.find_file(None, {}) == user
        here.touch()
        assert document.find_file(None, {}) == here
        variable.touch()
        assert document.find_file(None, environ) == variable
        flag.touch()
        assert document.find_file(flag, environ) == flag
        assert document.find_file(None, {"LLAMAPROXY_CONFIG": ""}) == here

    def test_the_real_environment_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "named.toml"
        path.touch()
        monkeypatch.setenv("LLAMAPROXY_CONFIG", str(path))
        assert document.find_file(None) == path

    @pytest.mark.parametrize("name", ["missing.toml", "no/such/folder.toml", "x" * 5000, "a\0b"])
    def test_a_file_that_was_asked_for_must_be_there(self, name: str) -> None:
        for explicit, environ in ((Path(name), {}), (None, {"LLAMAPROXY_CONFIG": name})):
            with pytest.raises(ConfigError, match=r"no such configuration file.*llamaproxy init"):
                document.find_file(explicit, environ)

    def test_a_directory_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="is a directory"):
            document.find_file(tmp_path, {})

    def test_a_directory_of_that_name_is_passed_over(self) -> None:
        Path("llamaproxy.toml").mkdir()
        assert document.find_file(None, {}) is None

    def test_a_home_that_may_not_be_entered_is_passed_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As where a service runs as a user of its own under root's HOME."""

        def refuse(path: object, **_: object) -> os.stat_result:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(os, "stat", refuse)
        assert document.find_file(None, {}) is None


class TestRead:
    def test_tables_as_they_are(self, tmp_path: Path) -> None:
        path = tmp_path / "c.toml"
        path.write_bytes(b"\xef\xbb\xbf[no.such]\nkey = 1\n")
        assert document.read(path) == {"no": {"such": {"key": 1}}}

    @pytest.mark.parametrize(("data", "told"), [(b"\xff", "not UTF-8"), (b"a = ", "not valid TOML")])
    def test_what_is_none(self, data: bytes, told: str, tmp_path: Path) -> None:
        path = tmp_path / "c.toml"
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=told):
            document.read(path)

    def test_what_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be read: No such file"):
            document.read(tmp_path / "gone.toml")


def test_the_users_own_file_lies_in_the_users_configuration() -> None:
    assert _user_file() == user_config_path("llamaproxy") / "llamaproxy.toml"
