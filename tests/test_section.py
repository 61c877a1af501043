"""llamaproxy.section: what holds for every table of the configuration."""

from typing import Any

import pytest
from pydantic import ValidationError

from llamaproxy.section import Section


class Table(Section):
    port: int = 0
    patience: float | None = None
    words: tuple[str, ...] = ()
    loud: bool = False


def faults(**settings: Any) -> dict[str, str]:
    with pytest.raises(ValidationError) as caught:
        Table.model_validate(settings)
    return {str(fault["loc"][0]): fault["msg"] for fault in caught.value.errors()}


@pytest.mark.parametrize("value", [True, False])
def test_truth_is_no_number_and_no_list(value: bool) -> None:
    told = f"Value error, must not be {str(value).lower()}"
    assert faults(port=value, patience=value, words=value) == dict.fromkeys(("port", "patience", "words"), told)
    assert Table(loud=value).loud is value


def test_unknown_keys_are_refused() -> None:
    assert faults(prot=1) == {"prot": "Extra inputs are not permitted"}


def test_it_does_not_change() -> None:
    table = Table(port=1)
    with pytest.raises(ValidationError, match="frozen"):
        table.port = 2  # type: ignore[misc]  # what mypy refuses is tried
    assert table.port == 1
