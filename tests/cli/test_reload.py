"""`llamaproxy reload` against a running gateway."""

import asyncio
import sys
from pathlib import Path

from tests.gateway import GatewayProcess, Table, fake_model


async def reload(url: str, environment: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "llamaproxy", "reload", "--url", url),
        env=environment or {},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    stdout, stderr = await asyncio.wait_for(process.communicate(), 20)
    return process.returncode or 0, stdout.decode(), stderr.decode()


async def test_it_says_what_changed_or_what_is_wrong(tmp_path: Path) -> None:
    models: dict[str, Table] = {name: fake_model(tmp_path, name) for name in ("old", "same")}
    async with GatewayProcess(tmp_path, {"models": models}).running() as gateway:
        gateway.write({"models": {"same": models["same"], "new": models["old"]}})
        assert await reload(gateway.url) == (0, "added new\nremoved old\n", "llamaproxy: reloaded\n")
        gateway.write({"limits": {"models_mx": 1}})
        code, stdout, stderr = await reload(gateway.url)
        assert (code, stdout) == (78, "")
        assert "did you mean models_max?" in stderr


async def test_it_says_that_nobody_is_there() -> None:
    code, _, stderr = await reload("http://127.0.0.1:9")
    assert code == 3
    assert "no gateway answers" in stderr
