"""llamaproxy.errors: every error has an answer, and codes keep their meaning."""

import inspect

import pytest

from llamaproxy import errors
from llamaproxy.errors import GatewayError

CLASSES = [
    cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, GatewayError)
]  # every class of the tree stands in this one module

CONTRACT = {
    (400, "invalid_json"),
    (400, "invalid_request"),
    (400, "duplicate_model"),
    (401, "invalid_api_key"),
    (403, "model_not_allowed"),
    (403, "forbidden_origin"),
    (404, "model_not_found"),
    (408, "request_timeout"),
    (413, "request_too_large"),
    (429, "queue_full"),
    (502, "bad_upstream_response"),
    (502, "request_crashed_backend"),
    (503, "model_unavailable"),
    (503, "model_start_failed"),
    (503, "model_out_of_memory"),
    (503, "queue_timeout"),
    (503, "shutting_down"),
    (504, "load_timeout"),
    (504, "upstream_stalled"),
}


def test_the_codes_of_the_contract_exist() -> None:
    assert {(cls.status, cls.code) for cls in CLASSES} >= CONTRACT


def test_a_code_has_one_status() -> None:
    pairs = {(cls.code, cls.status) for cls in CLASSES}
    assert len({code for code, _ in pairs}) == len(pairs)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_can_be_answered_with(cls: type[GatewayError]) -> None:
    assert 400 <= cls.status <= 599
    assert cls.code.replace("_", "").isalpha()
    assert cls.type.endswith("_error")
    assert (cls.type == "invalid_request_error") == issubclass(cls, errors.InvalidRequest)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_again_is_the_same_error_for_another_request(cls: type[GatewayError]) -> None:
    error = cls("words", param="model", retry_after=2.5, detail="the engine's own words")
    again = error.again()
    assert type(again) is cls
    assert again is not error
    assert vars(again) == vars(error)
    assert str(again) == "words"


def test_nothing_is_said_that_was_not_given() -> None:
    error = GatewayError("words")
    assert (error.param, error.retry_after, error.detail) == (None, None, None)
