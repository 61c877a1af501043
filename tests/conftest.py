"""What holds for every test."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.folders import remove_all

# How long anything takes says more about the machine and its neighbours than about the program.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session", autouse=True)
def no_folder_stays() -> Iterator[None]:
    """Short folders go at the very end, when nothing runs in them any more."""
    yield
    remove_all()
