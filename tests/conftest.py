"""What holds for every test."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.folders import remove_all

# How long anything takes says more about the machine and its neighbours than about the program.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """More than cores: most tests wait for processes, and for time to pass."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(autouse=True, scope="session")
def python3() -> Iterator[None]:
    """Scripts that are engines run on the Python of the tests: another may be a wrapper that takes long to start."""
    before = os.environ["PATH"]
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), before))
    yield
    os.environ["PATH"] = before


@pytest.fixture(autouse=True, scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nobody's edits, keys and rows but those of the tests."""
    before = {name: os.environ.pop(name, None) for name in ("STATE_DIRECTORY", "XDG_STATE_HOME")}
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))
    yield
    del os.environ["XDG_STATE_HOME"]
    os.environ.update({name: value for name, value in before.items() if value is not None})


@pytest.fixture(scope="session", autouse=True)
def no_folder_stays() -> Iterator[None]:
    """Short folders go at the very end, when nothing runs in them any more."""
    yield
    remove_all()
