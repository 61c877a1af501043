"""What the tests of backends share: both event loops, short paths, and a look at what is left behind.

The gateway runs on uvloop, and on asyncio where there is none: every async test here runs on both.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import uvloop

from llamaproxy.backends.orphans import RunDirectory
from tests.folders import short_folder


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def short_path() -> Path:
    """A directory whose path leaves room for a socket's name: pytest's own are too long for that."""
    return short_folder()


@pytest.fixture
def run_directory(short_path: Path) -> Iterator[RunDirectory]:
    directory = RunDirectory(short_path / "run")
    yield directory
    directory.close()


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails a test that leaves a process behind, or a zombie."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before
