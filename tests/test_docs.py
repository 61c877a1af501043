"""What is written for people is true: the example file, and the tables of keys, verbs and errors."""

import argparse
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from llamaproxy import cli, configfile, errors, secretfiles, variables
from llamaproxy.config import Config, KeyConfig
from llamaproxy.errors import GatewayError
from llamaproxy.modelconfig import MEANINGLESS, ModelConfig

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "config.example.toml"
README = ROOT / "README.md"
ERRORS = ROOT / "docs" / "errors.md"
CLI = ROOT / "docs" / "cli.md"

COMMENTED_OUT = re.compile(r"^# (?=\[[\w.]+\]$|[a-z0-9_]+ = )", re.MULTILINE)
KEY_LINE = re.compile(r"(?P<commented># )?(?P<key>[a-z0-9_]+) = (?P<value>.+?) +# (?P<meaning>.+)")
ERROR_ROW = re.compile(r"^\| (\d{3}) \| `(\w+)` \| (.+?) \| (.+?) \|$", re.MULTILINE)
VARIABLE = re.compile(r"LLAMAPROXY_[A-Z0-9_]+")
MODELS = {"qwen3": "path", "other": "command", "elsewhere": "url"}
"""The example's models, and who serves them."""
PLACEHOLDERS = {
    "LLAMAPROXY_URL",
    "LLAMAPROXY_API_KEY",
    "LLAMAPROXY_CONFIG",
    "LLAMAPROXY_SECTION__KEY",
    "LLAMAPROXY_MODELS__NAME__KEY",
    "LLAMAPROXY_COMPILE",
    "LLAMAPROXY_SKIP_FRONTEND",
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in list(os.environ):
        if variable.startswith("LLAMAPROXY_"):
            monkeypatch.delenv(variable)


def example() -> str:
    return EXAMPLE.read_text("utf-8")


def sections() -> Iterator[tuple[tuple[str, ...], type[BaseModel]]]:
    """Every table of the example, and what may stand in it."""
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield (name,), field.annotation
    for name in MODELS:
        yield ("models", name), ModelConfig
    yield ("keys", "alice"), KeyConfig


def keys(path: tuple[str, ...], section: type[BaseModel]) -> list[str]:
    """The keys that a table shows; of models, those that the first has not or that mean something else to it."""
    if section is not ModelConfig:
        return list(section.model_fields)
    kind = MODELS[path[1]]
    possible = [key for key in section.model_fields if key == kind or key not in {*MODELS.values(), *MEANINGLESS[kind]}]
    return [key for key in possible if kind == "path" or key == kind or key in MEANINGLESS["path"]]


def table(document: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    for part in path:
        document = document.get(part, {})
    return document


def key_lines(path: tuple[str, ...]) -> list[re.Match[str]]:
    """The lines with keys below a table's head."""
    lines = iter(example().splitlines())
    heads = (f"[{'.'.join(path)}]", f"# [{'.'.join(path)}]")
    assert any(line in heads for line in lines), f"{heads[0]} is missing"
    found = []
    for line in lines:
        if not line.strip():
            break
        match = KEY_LINE.fullmatch(line)
        assert match, f"not a key with a value and a meaning: {line}"
        found.append(match)
    return found


EVERY_TABLE = pytest.mark.parametrize(
    ("path", "section"), [pytest.param(path, section, id=".".join(path)) for path, section in sections()]
)


class TestExample:
    def test_as_it_is_it_changes_nothing(self) -> None:
        assert configfile.load(EXAMPLE).model_dump() == Config().model_dump()

    def test_with_all_its_comments_taken_it_is_good_too(self, tmp_path: Path) -> None:
        everything = tmp_path / "everything.toml"
        everything.write_text(COMMENTED_OUT.sub("", example()), "utf-8")
        config = configfile.load(everything)
        assert (list(config.models), list(config.keys)) == (list(MODELS), ["alice"])
        assert config.limits.linger is not None

    def test_it_has_every_section_and_no_other(self) -> None:
        assert set(tomllib.loads(COMMENTED_OUT.sub("", example()))) == set(Config.model_fields)

    @EVERY_TABLE
    def test_every_key_stands_there_once_and_nothing_else(
        self, path: tuple[str, ...], section: type[BaseModel]
    ) -> None:
        assert [line["key"] for line in key_lines(path)] == keys(path, section)

    def test_every_key_of_a_model_stands_in_one_of_its_tables(self) -> None:
        shown = {line["key"] for name in MODELS for line in key_lines(("models", name))}
        assert shown == set(ModelConfig.model_fields)

    @EVERY_TABLE
    def test_every_key_has_its_default(self, path: tuple[str, ...], section: type[BaseModel]) -> None:
        live = table(tomllib.loads(example()), path)
        taken = table(tomllib.loads(COMMENTED_OUT.sub("", example())), path)
        fields = {key: section.model_fields[key] for key in keys(path, section)}
        needed = {key for key, field in fields.items() if field.is_required()} | set(MODELS.values())
        required = {key: taken[key] for key in needed & set(taken)}
        for key, field in fields.items():
            if field.default is None:
                assert key not in live, f"{key} has no default: it must be a comment"
            elif not field.is_required():
                assert getattr(section.model_validate({**required, key: taken[key]}), key) == field.default, key
        assert set(live) == (
            set() if len(path) > 1 else {k for k, f in section.model_fields.items() if f.default is not None}
        )

    @EVERY_TABLE
    def test_every_key_has_its_meaning(self, path: tuple[str, ...], section: type[BaseModel]) -> None:
        assert {line["key"]: line["meaning"] for line in key_lines(path)} == {
            key: section.model_fields[key].description for key in keys(path, section)
        }

    @EVERY_TABLE
    def test_units_are_written_out(self, path: tuple[str, ...], section: type[BaseModel]) -> None:
        for line in key_lines(path):
            annotation = section.model_fields[line["key"]].annotation
            if annotation in (float, float | None):
                assert re.fullmatch(r'"\d+(ms|s|m|h|d)"', line["value"]), line[0]
            if line["key"].endswith(("_body", "_bytes", "_budget")):
                assert re.fullmatch(r'"\d+[KMG]iB"', line["value"]), line[0]

    @EVERY_TABLE
    def test_meanings_stand_in_one_column(self, path: tuple[str, ...], section: type[BaseModel]) -> None:
        assert len({line.start("meaning") for line in key_lines(path)}) == 1

    def test_lines_fit_a_screen(self) -> None:
        assert not [line for line in example().splitlines() if len(line) > 120]

    def test_nobody_knows_the_key_of_the_example(self) -> None:
        """A hash of a word would be a key that everybody has."""
        taken = tomllib.loads(COMMENTED_OUT.sub("", example()))
        assert taken["keys"]["alice"]["sha256"] == "0" * 64


class TestConfiguration:
    def test_the_page_is_what_the_settings_are(self) -> None:
        command = [sys.executable, "docs/write_configuration.py", "--check"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def test_every_key_stands_there(self) -> None:
        told = (ROOT / "docs" / "configuration.md").read_text("utf-8")
        keys = {key for _, section in sections() for key in section.model_fields}
        assert [key for key in sorted(keys) if f"| `{key}` |" not in told] == []


class TestManual:
    def test_the_manual_page_is_what_the_command_line_is(self) -> None:
        command = [sys.executable, "docs/write_manual.py", "--check"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr

    def test_every_verb_has_all_its_options_there(self) -> None:
        """Read from the page, so that nothing is left out by whatever writes it."""
        page = (ROOT / "docs" / "llamaproxy.1").read_text("utf-8").replace(r"\-", "-")
        parts = re.split(r"^\.SS \\fB(.+?)\\fR$", page, flags=re.MULTILINE)
        told = dict(zip(parts[1::2], parts[2::2], strict=True))
        for words, parser in every_parser(cli.parser()):
            said = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", re.sub(r"\\f[BRI]", " ", told[words])))
            assert {name for action in parser._actions for name in action.option_strings} <= {*said, "--help"}, words

    def test_exit_codes_stand_there(self) -> None:
        page = (ROOT / "docs" / "llamaproxy.1").read_text("utf-8")
        assert dict(re.findall(r"^\.B (\d+)\n(.+)$", page, re.MULTILINE)) == {
            str(code): meaning for code, meaning in cli.EXIT_CODES.items()
        }


class TestCommandLine:
    def test_every_verb_and_action_stands_there(self) -> None:
        text = CLI.read_text("utf-8")
        for verb, parser in subparsers(cli.parser()).items():
            assert re.search(rf"`llamaproxy {verb}\b", text), verb
            for action in subparsers(parser):
                assert re.search(rf"\b{verb} {action}\b", text), f"{verb} {action}"

    def test_every_option_that_is_written_about_exists(self) -> None:
        known = {"--" + word for word in ("help",)} | set(options(cli.parser()))
        assert set(re.findall(r"`(--[a-z-]+)", CLI.read_text("utf-8"))) <= known

    def test_exit_codes(self) -> None:
        rows = re.findall(r"^\| (\d+) \| (.+) \|$", CLI.read_text("utf-8"), re.MULTILINE)
        assert {int(code): meaning for code, meaning in rows} == cli.EXIT_CODES

    def test_the_menu_shows_models_and_what_went_wrong(self, tmp_path: Path) -> None:
        """As SwiftBar runs it, beside a `llamaproxy` that says what a gateway says."""
        model = {"name": "a|b", "state": "ready", "in_flight": 2}
        told = {"health": {"status": "ok", "version": "0"}, "models": [model]}
        program = tmp_path / "llamaproxy"
        program.write_text(f"#!/bin/sh\necho '{json.dumps(told)}'\n")
        program.chmod(0o755)
        assert menu(tmp_path).splitlines()[:3] == ["🦙 1", "---", "llamaproxy 0: ok"]
        assert "🟢 a¦b: ready, 2 in flight | " in menu(tmp_path)
        program.write_text("#!/bin/sh\necho 'no gateway | answers' >&2\nexit 3\n")
        assert menu(tmp_path) == "🦙 !\n---\nno gateway ¦ answers\n"


def subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from action.option_strings
    for inner in subparsers(parser).values():
        yield from options(inner)


def every_parser(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Of each verb and action, by its words."""
    for inner in subparsers(parser).values():
        yield inner.prog, inner
        yield from every_parser(inner)


def menu(folder: Path) -> str:
    plugin = ROOT / "docs" / "swiftbar" / "llamaproxy.10s.py"
    environment = {"PATH": f"{folder}:/usr/bin:/bin"}
    command = [sys.executable, str(plugin)]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=True)
    return done.stdout.decode()


@pytest.mark.parametrize("path", [README, EXAMPLE, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_variables_that_are_written_about_exist(path: Path) -> None:
    named = set(VARIABLE.findall(path.read_text("utf-8"))) - PLACEHOLDERS
    plain = {name.removesuffix("_FILE") if secretfiles.files({name: "x"}) else name for name in named}
    assert list(variables.unknown(dict.fromkeys(plain, "x"))) == []


class TestErrors:
    def rows(self) -> dict[tuple[str, int], tuple[str, str]]:
        text = ERRORS.read_text("utf-8")
        return {(code, int(status)): (when, remedy) for status, code, when, remedy in ERROR_ROW.findall(text)}

    def test_every_code_has_a_row_and_every_row_a_code(self) -> None:
        classes = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, GatewayError)]
        assert set(self.rows()) == {(cls.code, cls.status) for cls in classes}

    def test_every_row_says_when_and_what_to_do(self) -> None:
        for (code, _), (when, remedy) in self.rows().items():
            assert len(when) > 10, code
            assert len(remedy) > 10, code

    def test_keys_that_are_written_about_exist(self) -> None:
        for section, key in re.findall(r"`(\w+)\.(\w+)`", ERRORS.read_text("utf-8")):
            assert key in variables.keys_at((section,)), f"{section}.{key}"
