"""llamaproxy.cli.version: the version on stdout, for people and scripts."""

import json

import pytest

from llamaproxy import __version__, cli


def test_it_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"llamaproxy {__version__}\n", "")


def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schema_version": 1, "version": __version__}
