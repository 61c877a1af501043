"""What the kernel says about processes that it killed."""

import sys
from pathlib import Path

import pytest

from llamaproxy.backends import oom


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("nr_free_pages 5\noom_kill 7\ncompact_stall 1\n", 7),
        ("oom_kill_other 3\n", 0),
        ("oom_kill\n", 0),
        ("oom_kill many\n", 0),
        ("", 0),
    ],
)
def test_number_is_found_among_others(tmp_path: Path, text: str, count: int) -> None:
    file = tmp_path / "vmstat"
    file.write_text(text)
    assert oom.kills(file) == count


def test_no_such_counter(tmp_path: Path) -> None:
    assert oom.kills(tmp_path / "none") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="no such counter elsewhere")
def test_this_kernel_counts() -> None:
    assert any(line.startswith("oom_kill ") for line in Path("/proc/vmstat").read_text().splitlines())
