"""llamaproxy.cli.health: 0 or 1, and one line."""

from pathlib import Path

import pytest

from llamaproxy import cli
from tests.cli.talking import say
from tests.gateway import GatewayProcess


async def test_a_gateway_that_lives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no key for it."""
    keys = {"alice": {"sha256": "0123456789abcdef" * 4}}
    async with GatewayProcess(tmp_path, {"keys": keys}).running() as gateway:
        said = await say(capsys, gateway.url, "health")
        assert (said.code, said.out, said.err) == (0, "ok\n", [])


async def test_nobody_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    said = await say(capsys, "http://127.0.0.1:9", "health")
    assert (said.code, said.out, len(said.err)) == (1, "", 1)


def test_no_address_is_no_other_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLAMAPROXY_URL", raising=False)
    assert cli.main(["health", "--config", str(tmp_path / "none.toml")]) == 1
    assert "no such configuration file" in capsys.readouterr().err
