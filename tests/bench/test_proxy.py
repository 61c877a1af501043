"""The measurement as a whole, and as small as it can be."""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench import proxy, rivals
from bench.rivals import ENGINE, Running, Unstartable
from bench.turns import SCENARIOS, UNITS
from llamaproxy.configfile import Source

ROOT = Path(__file__).parents[2]
# Stands for any other proxy: it listens where it is told, and knows where the engine is.
PEER = f"{sys.executable} {ENGINE} --port {{port}} --upstream {{upstream}}"


@pytest.fixture
def folder() -> Iterator[Path]:
    """For everything that is started: sockets need a short path."""
    with tempfile.TemporaryDirectory(prefix="pb-") as name:
        yield Path(name)


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.proxy", *arguments]
    environment = {**os.environ, "TMPDIR": str(folder)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=True)


def started_in(folder: Path) -> list[psutil.Process]:
    """Processes that are there still, whoever their parent is: all have inherited the folder."""
    found = psutil.process_iter(["environ"])
    return [process for process in found if (process.info["environ"] or {}).get("TMPDIR") == str(folder)]


def test_one_round_of_one_scenario(folder: Path) -> None:
    files = ["--json", str(folder / "out.json"), "--svg", str(folder / "out.svg")]
    done = bench(folder, "unary", "--quick", "--rounds", "1", "--peer", f"other={PEER}", *files)
    document = json.loads((folder / "out.json").read_text())
    assert {"llamaproxy", "other"} <= document["summaries"]["unary"].keys()
    assert all(turn["requests"] > 0 and not turn["failures"] + turn["short"] for turn in document["turns"])
    assert document["summaries"]["unary"]["llamaproxy"]["us_per_request"]["min"] > 0
    assert "CPU µs a request" in done.stdout
    assert "llamaproxy" in (folder / "out.svg").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["out.json", "out.svg"]
    assert not started_in(folder)


def test_no_turn_begins_after_the_limit(folder: Path) -> None:
    done = bench(folder, "--limit", "0")
    assert "the rest is left out" in done.stderr
    assert "round 1" not in done.stderr


@pytest.mark.parametrize("arguments", [["nosuch"], ["--peer", "x"], ["--peer", "=y"], ["--peer", "direct=y"]])
def test_a_slip_in_the_command_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        proxy.main(arguments)
    assert "error:" in capsys.readouterr().err


def test_the_gateway_takes_the_configuration_with_many_models_and_keys(tmp_path: Path) -> None:
    file = tmp_path / "llamaproxy.toml"
    file.write_text(rivals.gateway_configuration(tmp_path, models=100, keys=50))
    config = Source(file).load()
    assert (len(config.models), len(config.keys)) == (100, 50)
    assert tomllib.loads(file.read_text())["engine"]["binary"] == str(tmp_path / "engine")


def test_an_engine_is_no_part_of_the_candidate_that_started_it(tmp_path: Path) -> None:
    """This process has used time; the engine below it, which has used some too, is not counted."""
    with rivals.engine("127.0.0.1", 0):
        # It begins as a copy of this process, with another command line.
        while not (found := [child for child in psutil.Process().children() if str(ENGINE) in child.cmdline()]):
            continue
        (engine,) = found
        assert Running("engine", 0, engine).memory() == 0
        assert Running("test", 0, psutil.Process()).memory() > 0
    assert not engine.is_running()


def test_a_candidate_that_ends_at_once_is_left_out_with_its_last_words() -> None:
    candidate = rivals.peer("broken", "sh -c 'echo no such thing >&2; exit 3'", 1)
    with pytest.raises(Unstartable, match="no such thing"), candidate.running():
        pass


def test_a_candidate_that_cannot_be_executed_is_left_out() -> None:
    with pytest.raises(Unstartable, match="cannot execute"), rivals.peer("none", "./nosuch", 1).running():
        pass


@pytest.mark.parametrize(
    ("python", "why"), [(sys.executable, "no compiled llamaproxy"), ("./nosuch", "cannot execute")]
)
def test_what_is_not_compiled_is_not_measured_as_if_it_were(python: str, why: str) -> None:
    with pytest.raises(Unstartable, match=why), rivals.compiled(python).running():
        pass


def test_every_figure_has_its_unit() -> None:
    assert {figure for scenario in SCENARIOS.values() for figure in scenario.figures} == UNITS.keys()
