"""The fixture of the fake engine's own tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fake.harness import Starter


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    starter.stop()
