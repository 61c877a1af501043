"""A place without a configuration, and what is told of one that cannot be used."""

import os
from pathlib import Path

import pytest

from llamaproxy import configfile, document
from llamaproxy.errors import ConfigError
from llamaproxy.variables import PREFIX


def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file and no variable of this machine."""
    for variable in list(os.environ):
        if variable.startswith(PREFIX):
            monkeypatch.delenv(variable)
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setattr(document, "user_file", lambda: tmp_path / "user" / "llamaproxy.toml")
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))


def told(path: Path | None) -> list[str]:
    """The lines of the ConfigError, without the file's own path."""
    with pytest.raises(ConfigError) as caught:
        configfile.load(path)
    return caught.value.message.replace(f"{path}: ", "").splitlines()
