"""llamaproxy: the version, where the build looks for it."""

import re
import tomllib
from pathlib import Path

import llamaproxy

ROOT = Path(__file__).parents[1]


def test_the_version_is_one_that_packages_have() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", llamaproxy.__version__)


def test_the_build_takes_it_from_here() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    place = project["tool"]["hatch"]["version"]["path"]
    assert "version" in project["project"]["dynamic"]
    assert f'__version__ = "{llamaproxy.__version__}"' in (ROOT / place).read_text("utf-8")
