"""llamaproxy.core.keys: whose key it is, and which models it may use."""

import timeit

import pytest

from llamaproxy.config import KeyConfig
from llamaproxy.core.keys import Key, Keys
from llamaproxy.core.limits import Limits
from llamaproxy.errors import InvalidApiKey, ModelNotAllowed


def config(number: int = 1, **rules: object) -> KeyConfig:
    return KeyConfig.model_validate({"sha256": f"{number:064x}", **rules})


def test_a_key_by_its_hash() -> None:
    keys = Keys({"a": config(1), "b": config(2, rpm=5, tpm=6, concurrency=7, admin=True, priority=8)})
    assert keys.find(f"{1:064x}", 0) == Key("a")
    assert keys.find(f"{2:064x}", 0) == Key("b", limits=Limits(5, 6, 7), admin=True, priority=8)
    with pytest.raises(InvalidApiKey, match="not known"):
        keys.find(f"{3:064x}", 0)


def test_expiry_is_a_time_with_a_zone() -> None:
    keys = Keys({"a": config(expires="1970-01-01T01:00:00+01:00"), "b": config(2, expires="1970-01-01T00:01:00Z")})
    with pytest.raises(InvalidApiKey, match="expired"):
        keys.find(f"{1:064x}", 0)
    assert keys.find(f"{2:064x}", 59.9).name == "b"
    with pytest.raises(InvalidApiKey):
        keys.find(f"{2:064x}", 60)


def test_stored_keys_give_way_to_those_of_the_configuration() -> None:
    keys = Keys({"a": config(1), "c": config(3)}, {"a": config(2), "b": config(3, admin=True)})
    assert keys.find(f"{1:064x}", 0).name == "a"
    with pytest.raises(InvalidApiKey):
        keys.find(f"{2:064x}", 0)
    assert keys.find(f"{3:064x}", 0).name == "c"


def test_whether_there_is_an_admin() -> None:
    assert not Keys({"a": config()}).has_admin
    assert Keys({"a": config()}, {"b": config(2, admin=True)}).has_admin


def test_models_by_name_or_alias() -> None:
    key = Key.of("a", config(models=["m", "gpt-4o"]))
    for names in (("m",), ("qwen", "gpt-4o"), ("m", "other")):
        key.check_model(names)
    with pytest.raises(ModelNotAllowed, match="'qwen'") as caught:
        key.check_model(("qwen", "gpt-4"))
    assert (caught.value.status, caught.value.code) == (403, "model_not_allowed")
    assert Key("b").may_use(("anything",))


def test_a_thousand_keys_cost_no_more_than_one() -> None:
    def seconds(count: int) -> float:
        keys = Keys({f"k{number}": config(number) for number in range(count)})
        return min(timeit.repeat(lambda: keys.find(f"{count - 1:064x}", 0), number=2000, repeat=5))

    assert seconds(1000) < 5 * seconds(1)
