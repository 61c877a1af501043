"""Verbs against a gateway that runs, for tests."""

import asyncio
from dataclasses import dataclass

import pytest

from llamaproxy import cli


@dataclass
class Said:
    """Exit code, and the lines of stdout and stderr."""

    code: int
    out: str
    err: list[str]


async def say(capsys: pytest.CaptureFixture[str], url: str, *words: str) -> Said:
    """Run one verb; the gateway may be in this process, so that nothing may wait here."""
    code = await asyncio.to_thread(cli.main, [*words, "--url", url])
    out, err = capsys.readouterr()
    return Said(code, out, [line.removeprefix("llamaproxy: ") for line in err.splitlines()])
