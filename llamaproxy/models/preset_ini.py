"""The preset files of llama-server in router mode (`--models-preset`).

Owns their grammar, which is llama-server's own and no other INI's: keys begin their line, every `;` and `#` begins a
comment, a second section of a name replaces the first, and of two names for one option the alphabetically last counts.
Checked against b11434. Must not check values: `presets` does.
"""

import re
from collections.abc import Iterator

from llamaproxy.errors import ConfigError
from llamaproxy.models.draft import Draft, Faults, Plan, shown
from llamaproxy.models.options import Option, key

_HEADER = re.compile(r"\[[ \t]*+(?P<name>[^\]]++)\](?P<rest>.*)")
_KEY = re.compile(r"(?P<key>[A-Za-z_][\w.-]*+)[ \t]*+", re.ASCII)
_COMMENT = re.compile(r"[;#]")
_TAG = re.compile(r"[-.]([A-Z0-9_]+)$", re.IGNORECASE | re.ASCII)
_EVERYWHERE = "*"
_NAMELESS = "default"
"""The model of the keys before the first section."""
_FALSE = frozenset({"off", "disabled", "false", "0"})
_TRUE = frozenset({"on", "enabled", "true", "1"})
_PRELOAD = "load-on-startup"
_STOP = "stop-timeout"
_DEDUP = "dedup-cache-models"

Section = dict[str, str]


def parse(text: str, faults: Faults) -> Plan:
    """The models of a preset file. Raises ConfigError where llama-server would not read it."""
    sections = _sections(text)
    plan = Plan()
    for name, section in sections.items():
        plan.unmapped += _unknown(name, section)
    everywhere = sections.pop(_EVERYWHERE, {})
    if _STOP in everywhere:
        plan.sections["engine"] = {"stop_timeout": everywhere[_STOP]}
    for name, section in sections.items():
        if section or name != _NAMELESS:
            plan.models.append(_draft(name, everywhere, section, plan, faults))
    return plan


def _sections(text: str) -> dict[str, Section]:
    sections: dict[str, Section] = {_NAMELESS: {}}
    current = sections[_NAMELESS]
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), 1):
        content = _COMMENT.split(line, maxsplit=1)[0].rstrip(" \t")
        word, equals, value = content.partition("=")
        if (header := _HEADER.fullmatch(line)) and not _COMMENT.split(header["rest"], maxsplit=1)[0].strip(" \t"):
            current = sections[header["name"]] = {}
        elif equals and (match := _KEY.fullmatch(word)):
            current[match["key"]] = value.strip(" \t")
        elif content:
            raise ConfigError(f"line {number}: neither [section] nor key = value: {shown(line[:60])}")
    for section in sections.values():
        section.pop("version", None)
    return sections


def _unknown(name: str, section: Section) -> Iterator[str]:
    for word in section:
        if word == _DEDUP or (word == _STOP and name != _EVERYWHERE):
            yield f"[{shown(name)}]: {word}"
        elif word not in (_PRELOAD, _STOP) and not key(word):
            yield f"[{shown(name)}]: {shown(word)} is no option of llama-server"


def _draft(name: str, everywhere: Section, section: Section, plan: Plan, faults: Faults) -> Draft:
    draft = Draft(_canonical(name), f"[{shown(name)}]")
    if draft.name != name:
        draft.fields["aliases"] = [name]
    if (everywhere | section).get(_PRELOAD) in _TRUE:
        draft.fields["preload"] = True
    chosen: dict[str, tuple[Option, str, str]] = {}
    for source in (everywhere, section):
        for word in sorted(source):
            if found := key(word):
                chosen[found[0].name] = (*found, source[word])
    for option, spelling, value in chosen.values():
        if words := _words(option, spelling, value):
            plan.unmapped += draft.add(option, words, faults)
    return draft


def _words(option: Option, spelling: str, value: str) -> list[str]:
    """The words of a command line that say the same, if any are needed."""
    if option.values:
        return [option.name, value]
    if not option.negatives:
        return [] if value in _FALSE else [option.name]
    negative = value in _TRUE if spelling in option.negatives else value in _FALSE
    return [option.negatives[-1] if negative else option.name]


def _canonical(name: str) -> str:
    """The name that llama-server lists: it writes the tag behind the last colon in capitals, and cuts its beginning."""
    base, colon, tag = name.rpartition(":")
    if not colon:
        return name
    match = _TAG.search(tag)
    return f"{base}:{(match[1] if match else tag).upper()}"
