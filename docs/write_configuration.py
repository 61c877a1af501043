"""Writes docs/configuration.md from the settings themselves: `make docs`.

Keys, types, ranges, defaults and meanings are those of `llamaproxy.config`; the words before the tables stand here.
"""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llamaproxy.config import Config, KeyConfig
from llamaproxy.modelconfig import MEANINGLESS, ModelConfig

HERE = Path(__file__).parent
TARGET = HERE / "configuration.md"
EXAMPLE = HERE.parent / "config.example.toml"

HEAD = """# Configuration

Written by `make docs` from the settings themselves. `llamaproxy init` writes a file with all of it, as comments;
`llamaproxy check-config` judges one, and `llamaproxy config show --origin` says where each value in force comes from.

The file is `--config FILE`, `$LLAMAPROXY_CONFIG`, `./llamaproxy.toml`, or `llamaproxy.toml` in the user's configuration
directory, the first that is there. None is needed. A flag wins over the environment, the environment over what was
edited over HTTP, that over the file, the file over the defaults.

In the environment a key is `LLAMAPROXY_SECTION__KEY`, and one of a model `LLAMAPROXY_MODELS__NAME__KEY`: both in upper
case, which a model's name is then in lower. Lists are `a,b` or JSON. Durations are seconds, or `"100ms"`, `"90s"`,
`"5m"`, `"1.5h"`, `"30d"`; sizes are bytes, or `"64MiB"`, `"8GB"`. An unknown key or variable is an error that names the
nearest one.

## Secrets

A secret may stand in a file: `LLAMAPROXY_MODELS__NAME__API_KEY_FILE` and `LLAMAPROXY_KEYS__NAME__SHA256_FILE` name it.
One line end at its end is none of it. It is a regular file of 64 KiB at most, in UTF-8, and is read again with every
reload; the gateway sees by itself that it was changed. With the same variable without `_FILE` it is an error.
`llamaproxy config show --origin` says `file PATH`. Verbs that ask a running gateway know `LLAMAPROXY_API_KEY_FILE`
beside `LLAMAPROXY_API_KEY`. Variables of engines (`env`) are not read from files, because many of their own end in
`_FILE`. The hub's token is `HF_TOKEN`, or in the file that `HF_TOKEN_PATH` names.
"""
MODELS = """
One table for each model. Its name is what clients ask for. Exactly one of `path`, `command` and `url` says who serves
it; the column *for* says which keys mean something to which.
"""
KEYS = """
One table for each API key. `llamaproxy keys create NAME --offline` prints the lines. [More about keys](keys.md).
"""
LARGEST = 2**31 - 1
"""A limit of integers, which is none of the setting's own."""


def document() -> str:
    """The whole text."""
    example = tomllib.loads(EXAMPLE.read_text("utf-8"))
    parts = [HEAD]
    for name, field in Config.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            parts.append("\n".join(section(name, field.annotation, example.get(name, {}))))
    parts.append("\n## [models.NAME]\n" + MODELS + "\n" + "\n".join(models()) + "\n")
    parts.append("\n## [keys.NAME]\n" + KEYS + "\n" + "\n".join(table(KeyConfig)))
    return "".join(parts).rstrip() + "\n"


def section(name: str, model: type[BaseModel], example: dict[str, Any]) -> Iterator[str]:
    yield f"\n## [{name}]\n"
    yield from table(model, example)
    yield ""


def table(model: type[BaseModel], example: dict[str, Any] | None = None) -> Iterator[str]:
    yield "| key | default | meaning |"
    yield "|---|---|---|"
    for key, field in model.model_fields.items():
        yield f"| `{key}` | {default(field, (example or {}).get(key))} | {meaning(field)} |"


def models() -> Iterator[str]:
    yield "| key | default | for | meaning |"
    yield "|---|---|---|---|"
    for key, field in ModelConfig.model_fields.items():
        kinds = [kind for kind in MEANINGLESS if key == kind or key not in {*MEANINGLESS[kind], *MEANINGLESS}]
        whose = "all" if len(kinds) == len(MEANINGLESS) else ", ".join(kinds)
        yield f"| `{key}` | {default(field)} | {whose} | {meaning(field)} |"


def default(field: FieldInfo, spelled: Any = None) -> str:
    """As the example spells it, with its unit."""
    if field.is_required():
        return "needed"
    value = field.default if spelled is None else spelled
    return "unset" if value is None else f"`{toml(value)}`"


def toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case tuple() | list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return "{}"
        case float():
            return f'"{value:g}s"'
    return str(value)


def meaning(field: FieldInfo) -> str:
    limits = f" ({'; '.join(bounds(field))})" if any(bounds(field)) else ""
    return f"{field.description}{limits}".replace("|", "\\|")


def bounds(field: FieldInfo) -> Iterator[str]:
    said = {name: value for rule in field.metadata for name, value in vars_of(rule) if isinstance(value, int | float)}
    if said.get("le") == LARGEST:
        yield f"at least {said['ge']}"
    elif "ge" in said and "le" in said:
        yield f"{said['ge']:,} to {said['le']:,}"


def vars_of(rule: Any) -> Iterator[tuple[str, Any]]:
    for name in ("ge", "le"):
        if hasattr(rule, name):
            yield name, getattr(rule, name)


if __name__ == "__main__":
    text = document()
    if sys.argv[1:] == ["--check"]:
        sys.exit(None if TARGET.read_text("utf-8") == text else f"{TARGET} is out of date: make docs")
    TARGET.write_text(text, "utf-8")
