"""From another program's configuration to ours: llama-server's model presets, and llama-swap.

Owns what every import has to do: to keep what our configuration takes, to name what it does not take, and to write
TOML. Reads no file and changes none.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ValidationError

from llamaproxy import toml
from llamaproxy.config import Config
from llamaproxy.errors import ConfigError
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models import llama_swap, preset_ini
from llamaproxy.models.draft import Draft, Faults, Plan, shown
from llamaproxy.values import check_name

Kind = Literal["llama-server", "llama-swap"]
LONGEST_TEXT = 256 * 1024
"""Characters of a file to import."""
MOST_MODELS = 2000
_UNNAMEABLE = re.compile(r"[^A-Za-z0-9._:/+@-]+")
_Section = TypeVar("_Section", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Imported:
    """`toml` is a configuration file; `unmapped` has a line for everything that found no place in it."""

    toml: str
    unmapped: tuple[str, ...]


def _no_faults(args: Sequence[str]) -> Iterable[str]:
    return ()


def import_presets(
    text: str, kind: Kind, faults: Faults = _no_faults, environ: Mapping[str, str] | None = None
) -> Imported:
    """What stands in `text`, as a configuration of ours. Raises ConfigError where it cannot be read at all.

    `faults` says which llama-server arguments are refused; they are left out, and named. `environ` is what
    llama-swap's `${env.NAME}` stands for.
    """
    if len(text) > LONGEST_TEXT:
        raise ConfigError(f"more than {LONGEST_TEXT} characters are not read")
    text = text.removeprefix("\ufeff")
    plan = preset_ini.parse(text, faults) if kind == "llama-server" else llama_swap.parse(text, faults, environ or {})
    if len(plan.models) > MOST_MODELS:
        raise ConfigError(f"more than {MOST_MODELS} models are not read")
    tables = _sections(plan) | _models(plan) | _keys(plan)
    lines = ["\n".join(toml.table(name, values)) for name, values in tables.items()]
    return Imported("\n".join(lines), tuple(plan.unmapped))


def _sections(plan: Plan) -> dict[str, dict[str, Any]]:
    tables = {}
    for name, fields in plan.sections.items():
        section = _settled(type(getattr(Config(), name)), fields, name, plan)
        tables[name] = section.model_dump(exclude_defaults=True) if section else {}
    return {name: values for name, values in tables.items() if values}


def _models(plan: Plan) -> dict[str, dict[str, Any]]:
    """The models that have a file, under names that are allowed and that no other has."""
    named: dict[str, tuple[Draft, ModelConfig]] = {}
    for draft in plan.models:
        fields = {key: value for key, value in draft.fields.items() if key != "aliases"} | {"args": draft.args}
        if not any(map(draft.fields.get, ("path", "command", "url"))):
            plan.unmapped.append(f"{draft.origin}: left out: it names no model file")
        elif model := _settled(ModelConfig, fields, draft.origin, plan):
            named[_name(draft, named, plan)] = draft, model
    taken = set(named)
    return {
        f"models.{toml.key(name)}": _without_defaults(model, _aliases(draft, name, taken, plan))
        for name, (draft, model) in named.items()
    }


def _without_defaults(model: ModelConfig, aliases: list[str]) -> dict[str, Any]:
    return model.model_dump(exclude_defaults=True) | ({"aliases": aliases} if aliases else {})


def _settled(kind: type[_Section], fields: Mapping[str, Any], origin: str, plan: Plan) -> _Section | None:
    """The section, without the fields that are wrong in it; None where one that must be there is."""
    kept = dict(fields)
    while True:
        try:
            return kind.model_validate(kept)
        except ValidationError as error:
            for key, reason in {str((*fault["loc"], "")[0]): fault["msg"] for fault in error.errors()}.items():
                if key or kept == fields:
                    plan.unmapped.append(": ".join(filter(None, (origin, key, shown(reason)))))
                if kept.pop(key, None) is None:
                    return None


def _name(draft: Draft, taken: Mapping[str, object], plan: Plan) -> str:
    name = draft.name
    if not _is_name(name):
        parts = _UNNAMEABLE.sub("-", name)[:100].split("/")
        name = "/".join(part for part in (part.strip("-._:+@") for part in parts) if part) or "model"
    if name in taken:
        name = next(other for number in count(2) if (other := f"{name[:100]}-{number}") not in taken)
    if name != draft.name:
        plan.unmapped.append(f"{draft.origin}: its name is {name} now")
    return name


def _aliases(draft: Draft, name: str, taken: set[str], plan: Plan) -> list[str]:
    kept = []
    for alias in dict.fromkeys(draft.fields.get("aliases", [])):
        if _is_name(alias) and alias not in taken:
            kept.append(alias)
            taken.add(alias)
        elif alias not in (name, draft.name):
            reason = "is taken" if alias in taken else "is no name here"
            plan.unmapped.append(f"{draft.origin}: the alias {shown(alias)} {reason}")
    return kept


def _is_name(text: str) -> bool:
    try:
        return bool(check_name(text))
    except ValueError:
        return False


def _keys(plan: Plan) -> dict[str, dict[str, Any]]:
    hashes = dict.fromkeys(hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest() for secret in plan.keys)
    return {f"keys.imported-{number}": {"sha256": value} for number, value in enumerate(hashes, 1)}
