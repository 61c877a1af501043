"""llamaproxy.server.wanted: types of bodies, with the bounds of the configuration."""

from typing import Any

import pytest
from pydantic import ValidationError

from llamaproxy import edits
from llamaproxy.server.wanted import SOURCE, ConfigEdit, ModelEdit, NewModel


def read(kind: Any, body: Any) -> Any:
    return kind.model_validate(body).model_dump(mode="json", exclude_unset=True)


def test_values_are_as_the_configuration_has_them() -> None:
    body = {"limits": {"linger": "5ms", "memory_budget": "1GiB", "models_max": None}, "kv": {"carry": False}}
    assert read(ConfigEdit, body) == {
        "limits": {"linger": 0.005, "memory_budget": 1024**3, "models_max": None},
        "kv": {"carry": False},
    }
    assert read(ModelEdit, {"aliases": "a,b", "pinned": True, "ttl": None}) == {
        **{"aliases": ["a", "b"], "pinned": True, "ttl": None},
    }


def test_they_have_the_keys_that_can_be_edited() -> None:
    assert set(ConfigEdit.model_fields) == set(edits.SECTIONS)
    assert set(ModelEdit.model_fields) == set(edits.MODEL)
    assert set(NewModel.model_fields) == {*edits.MODEL, *SOURCE}


@pytest.mark.parametrize(
    "body",
    [
        {"limits": {"models_max": 0}},
        {"limits": {"models_max": True}},
        {"limits": None},
        {"limits": {"max_wait": "soon"}},
        {"kv": {"carry": 7}},
        {"engine": {"binary": "/bin/sh"}},
        {"server": {"host": "0.0.0.0"}},
        {"telemetry": {"database": "/etc/x"}},
        {"models": {"m": {"command": ["sh"]}}},
        {"keys": {}},
    ],
    ids=repr,
)
def test_what_is_refused(body: Any) -> None:
    with pytest.raises(ValidationError):
        ConfigEdit.model_validate(body)
