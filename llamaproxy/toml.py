"""TOML: how tables are written down.

Owns the spelling of values. Knows no key; what is read is `document`'s.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import SecretStr

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def table(name: str, values: Mapping[str, Any]) -> Iterator[str]:
    """The lines of one table; `name` is spelled already."""
    yield f"[{name}]"
    for field, content in values.items():
        yield f"{key(field)} = {value(content)}"
    yield ""


def key(name: str) -> str:
    return name if _BARE.fullmatch(name) else value(name)


def value(content: object) -> str:
    """Its basic strings are JSON's, but for DEL, which has to be escaped, and lone surrogates."""
    if isinstance(content, SecretStr):
        return value(content.get_secret_value())
    if isinstance(content, str):
        paired = content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return json.dumps(paired, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(content, bool):
        return str(content).lower()
    if isinstance(content, Mapping):
        return "{" + ", ".join(f"{key(name)} = {value(item)}" for name, item in content.items()) + "}"
    if isinstance(content, list | tuple):
        return f"[{', '.join(map(value, content))}]"
    return repr(content)
