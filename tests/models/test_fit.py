"""llamaproxy.models.fit: yes, tight or no, with the numbers."""

from pathlib import Path

import pytest

from llamaproxy.models.fit import Fits, Room, fit
from llamaproxy.models.footprint import PROCESS, estimate_bytes
from llamaproxy.models.gguf import GgufInfo, read
from tests.models import ggufs

GB = 1024**3


@pytest.fixture
def info(tmp_path: Path) -> GgufInfo:
    path = ggufs.write(
        tmp_path / "m.gguf",
        block_count=32,
        context_length=131072,
        embedding_length=4096,
        attention__head_count=32,
        attention__head_count_kv=8,
    )
    return read(path)


def test_the_whole_context_counts(info: GgufInfo) -> None:
    found = fit(5 * GB, info, Room(64 * GB))
    assert found.needed == 5 * GB + estimate_bytes([info]) - max(info.tensor_bytes, info.data_end)
    assert (found.fits, found.context, found.room, found.on_gpu) == (Fits.YES, 131072, 64 * GB, False)


def test_with_a_smaller_context_it_is_tight(info: GgufInfo) -> None:
    found = fit(5 * GB, info, Room(8 * GB))
    assert found.needed > 16 * GB
    assert found.needed_small < 7 * GB
    assert found.fits is Fits.TIGHT


def test_files_that_are_too_large_do_not_fit(info: GgufInfo) -> None:
    assert fit(9 * GB, info, Room(8 * GB)).fits is Fits.NO


def test_almost_all_of_the_room_is_tight() -> None:
    assert fit(9 * GB, None, Room(10 * GB)).fits is Fits.TIGHT


def test_the_gpus_are_room_as_well(info: GgufInfo) -> None:
    found = fit(5 * GB, info, Room(8 * GB, 80 * GB))
    assert (found.fits, found.on_gpu) == (Fits.YES, True)


def test_without_a_header_the_files_count_alone() -> None:
    found = fit(GB, None, Room(8 * GB))
    assert (found.needed, found.needed_small, found.context) == (GB + PROCESS, GB + PROCESS, None)
