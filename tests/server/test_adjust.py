"""llamaproxy.server.adjust: what may be changed while the gateway runs, and what may not."""

from typing import Any

import pytest
from pydantic import ValidationError

from llamaproxy.config import Config
from llamaproxy.effective import Origin
from llamaproxy.errors import InvalidRequest
from llamaproxy.server.adjust import Settings, settings_of, with_pin, with_settings
from llamaproxy.server.loaded import Loaded, compare, load

MODELS: dict[str, Any] = {
    "m": {"path": "/m.gguf", "ttl": 60},
    "n": {"path": "/n.gguf", "pinned": True},
    "far": {"url": "http://far.test"},
}


def loaded(**sections: Any) -> Loaded:
    return load(Config.model_validate({"models": MODELS, **sections}))


def change(before: Loaded, **settings: Any) -> Loaded:
    return with_settings(before, Settings.model_validate(settings))


class TestSettings:
    def test_only_what_is_named_is_changed(self) -> None:
        before = loaded(limits={"models_max": 3, "max_wait": 7})
        after = change(before, limits={"queue_timeout": "2m"}, telemetry={"log_level": "debug"})
        limits = before.config.limits.model_copy(update={"queue_timeout": 120.0})
        assert after.config.limits == limits
        assert after.config.telemetry.log_level == "debug"
        assert (after.config.breaker, after.config.models) == (before.config.breaker, before.config.models)

    def test_origins_say_so(self) -> None:
        after = change(loaded(), limits={"models_max": 2})
        assert dict(after.origins) == {("limits", "models_max"): Origin.RUNTIME}

    def test_null_unsets_what_can_be_unset(self) -> None:
        after = change(loaded(limits={"memory_budget": 1000}), limits={"memory_budget": None})
        assert after.config.limits.memory_budget is None

    @pytest.mark.parametrize(
        "settings",
        [
            {"limits": {"models_max": 0}},
            {"limits": {"models_max": None}},
            {"limits": {"models_max": True}},
            {"limits": {"max_wait": "soon"}},
            {"limits": {"prot": 1}},
            {"breaker": {"open": 0}},
            {"telemetry": {"log_level": "loud"}},
            {"telemetry": {"database": "/tmp/x"}},
            {"engine": {"binary": "/bin/sh"}},
            {"models": {"m": {"command": ["sh"]}}},
            {"limits": None},
        ],
        ids=repr,
    )
    def test_what_is_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            Settings.model_validate(settings)

    def test_all_of_them_are_shown_in_the_shape_of_the_configuration(self) -> None:
        shown = settings_of(loaded(limits={"models_max": 7}).config)
        assert {name: set(section) for name, section in shown.items()} == {
            "limits": set(Config().limits.model_dump()),
            "breaker": set(Config().breaker.model_dump()),
            "telemetry": {"log_level"},
        }
        assert shown["limits"]["models_max"] == 7
        assert settings_of(change(loaded(), **shown).config) == shown, "what is shown can be sent"


class TestPin:
    def test_catalogue_and_configuration_agree(self) -> None:
        after = with_pin(with_pin(loaded(), "m", True), "n", False)
        assert {name: model.config.pinned for name, model in after.catalogue.models.items()} == {
            "m": True,
            "n": False,
            "far": False,
        }
        assert after.config.models["m"] is after.catalogue.models["m"].config
        assert after.config.models["m"].ttl == 60
        assert after.origins["models", "m", "pinned"] is Origin.RUNTIME
        assert list(after.catalogue.models) == list(MODELS), "in their order"

    def test_no_process_is_replaced_for_it_by_the_next_reload(self) -> None:
        assert compare(with_pin(loaded(), "m", True), loaded()).changed == ()

    def test_a_model_that_is_not_configured(self) -> None:
        before = loaded()
        scanned = Loaded(before.config.model_copy(update={"models": {}}), before.found, before.catalogue, {})
        after = with_pin(scanned, "m", True)
        assert (after.catalogue.models["m"].config.pinned, after.config.models) == (True, {})

    def test_what_takes_no_place_cannot_be_pinned(self) -> None:
        with pytest.raises(InvalidRequest, match="served elsewhere"):
            with_pin(loaded(), "far", True)
