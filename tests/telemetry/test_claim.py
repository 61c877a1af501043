"""llamaproxy.telemetry.claim: one gateway's at a time, and nobody's after its end."""

import subprocess
import sys
from pathlib import Path

import pytest

from llamaproxy.telemetry.claim import Claim

HOLD = (
    "import sys; from pathlib import Path; from llamaproxy.telemetry.claim import Claim; c = Claim(Path(sys.argv[1]))"
)


def test_the_first_has_it_until_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = Claim(tmp_path / "state" / "d.db"), Claim(tmp_path / "state" / "d.db")
    assert (first.held, second.held) == (True, False)
    assert "d.db is another gateway's" in caplog.text
    second.close()
    first.close()
    third = Claim(tmp_path / "state" / "d.db")
    assert third.held
    third.close()


def test_a_gateway_that_was_killed_has_none(tmp_path: Path) -> None:
    killed = f"{HOLD}; print(c.held, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", killed, str(tmp_path / "d.db")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.readline() == b"True\n"
        assert not Claim(tmp_path / "d.db").held
        process.kill()
    assert Claim(tmp_path / "d.db").held


def test_where_nothing_can_be_written_nobody_is_blamed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    claim = Claim(tmp_path / "file" / "d.db")
    assert claim.held
    claim.close()
    assert caplog.text == ""
