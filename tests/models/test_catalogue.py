"""llamaproxy.models.catalogue: from a name in a request to a model, whatever the name is."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.config import Config
from llamaproxy.errors import InvalidRequest, ModelNotFound
from llamaproxy.modelconfig import ModelConfig
from llamaproxy.models.catalogue import BUNDLED_NAME, Catalogue, Model, build


def catalogue(**models: list[str]) -> Catalogue:
    """Models by name, each with its aliases."""
    return Catalogue(
        Model(name, ModelConfig(path=f"/{name}.gguf", aliases=tuple(aliases)), "configured")
        for name, aliases in models.items()
    )


@pytest.mark.parametrize(
    ("config", "rewritten"),
    [
        ({"path": "a.gguf"}, False),
        ({"path": "a.gguf", "set_params": {"temperature": 0}}, True),
        ({"path": "a.gguf", "strip_params": ["seed"]}, True),
        ({"url": "http://a.test"}, True),
    ],
)
def test_what_has_its_own_name_or_parameters_is_rewritten(config: dict[str, Any], rewritten: bool) -> None:
    assert Model("a", ModelConfig.model_validate(config), "configured").rewritten is rewritten


class TestResolve:
    def test_by_name_and_by_alias(self) -> None:
        both = catalogue(qwen=["gpt-4o", "small"], llama=["large"])
        assert [both.resolve(name).name for name in ("qwen", "gpt-4o", "small", "llama", "large")] == [
            "qwen",
            "qwen",
            "qwen",
            "llama",
            "llama",
        ]

    def test_without_a_name_the_only_one(self) -> None:
        assert catalogue(qwen=["a", "b"]).resolve(None).name == "qwen"

    def test_without_a_name_and_without_a_choice(self) -> None:
        with pytest.raises(InvalidRequest, match="more than one") as caught:
            catalogue(a=[], b=[]).resolve(None)
        assert (caught.value.status, caught.value.param) == (400, "model")
        with pytest.raises(ModelNotFound, match="no model is configured") as missing:
            catalogue().resolve(None)
        assert missing.value.param == "model"

    def test_the_nearest_are_named(self) -> None:
        both = catalogue(qwen=["gpt-4o"], llama=[])
        with pytest.raises(ModelNotFound, match=r"there is no model 'qwne'; did you mean qwen\?") as caught:
            both.resolve("qwne")
        assert caught.value.param == "model"
        with pytest.raises(ModelNotFound, match=r"gpt-4\.1.*did you mean gpt-4o"):
            both.resolve("gpt-4.1")
        with pytest.raises(ModelNotFound, match="GET /v1/models"):
            both.resolve("xyzzy")

    def test_three_at_most(self) -> None:
        many = catalogue(**{f"qwen{number}": [] for number in range(9)})
        with pytest.raises(ModelNotFound) as caught:
            many.resolve("qwen")
        assert caught.value.message.partition("mean ")[2].count("qwen") == 3

    @pytest.mark.parametrize(
        "name", ["", "QWEN", "qwen ", "../../etc/passwd", "a\r\nX: 1", "a\0", "\x1b[31m", "\udcff"]
    )
    def test_anything_else_is_not_found(self, name: str) -> None:
        with pytest.raises(ModelNotFound) as caught:
            catalogue(qwen=[]).resolve(name)
        assert caught.value.message.isprintable()

    def test_a_long_name_is_cut(self) -> None:
        with pytest.raises(ModelNotFound) as caught:
            catalogue(qwen=[]).resolve("x" * 10_000)
        assert len(caught.value.message) < 250

    @given(st.text())
    def test_no_text_fails_in_another_way(self, name: str) -> None:
        try:
            assert catalogue(qwen=["q"]).resolve(name).name == "qwen"
        except ModelNotFound as error:
            assert name not in ("qwen", "q")
            assert error.message.isprintable()


class TestSplitPath:
    @pytest.mark.parametrize(
        ("path", "name", "rest"),
        [
            ("qwen", "qwen", "/"),
            ("qwen/", "qwen", "/"),
            ("qwen/health", "qwen", "/health"),
            ("small/v1/chat", "qwen", "/v1/chat"),
            ("org/model/health", "org/model", "/health"),
            ("org%2Fmodel/health", "org/model", "/health"),
            ("org%2fmodel", "org/model", "/"),
            ("qwen3%3A0.6b/x", "qwen3:0.6b", "/x"),
            ("org/x", "org", "/x"),
            ("qwen/a%2Fb//c/", "qwen", "/a%2Fb//c/"),
            ("qwen/%2e%2e/x", "qwen", "/%2e%2e/x"),
        ],
    )
    def test_the_rest_stays_as_it_is_spelled(self, path: str, name: str, rest: str) -> None:
        models = catalogue(**{"qwen": ["small"], "org": [], "org/model": [], "qwen3:0.6b": []})
        model, left = models.split_path(path)
        assert (model.name, left) == (name, rest)

    @pytest.mark.parametrize("path", ["", "/", "/qwen", "qwne/health", "qwen%252Fx", "%71wen%2Fx", "%ff", "%00"])
    def test_a_path_that_begins_with_no_model(self, path: str) -> None:
        with pytest.raises(ModelNotFound):
            catalogue(qwen=[]).split_path(path)

    def test_the_longest_name_there_can_be(self) -> None:
        name = "/".join("a" * 64)
        assert catalogue(**{name: []}).split_path(f"{name}/health") == (catalogue(**{name: []}).models[name], "/health")

    def test_a_path_of_slashes_costs_next_to_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Tried at every length, the 4,000 parts of such a path would hold up everybody else."""

        class Counting(dict[str, Model]):
            asked = 0

            def get(self, key: str, default: Any = None) -> Any:
                self.asked += 1
                return super().get(key, default)

        models = catalogue(qwen=[])
        names = Counting(models._names)
        monkeypatch.setattr(models, "_names", names)
        with pytest.raises(ModelNotFound):
            models.split_path("a/" * 4000)
        assert 0 < names.asked < 100


class TestBuild:
    def config(self, **sections: Any) -> Config:
        return Config.model_validate(sections)

    def test_the_configured_ones(self) -> None:
        config = self.config(models={"b": {"path": "b.gguf"}, "a": {"path": "a.gguf"}})
        built = build(config, Path("/bundled.gguf"))
        assert [(model.name, model.config.path, model.source) for model in built.models.values()] == [
            ("b", "b.gguf", "configured"),
            ("a", "a.gguf", "configured"),
        ]

    def test_the_bundled_one_where_there_is_no_other(self) -> None:
        (model,) = build(self.config(), Path("/bundled.gguf")).models.values()
        assert (model.name, model.config.path, model.source) == (BUNDLED_NAME, "/bundled.gguf", "bundled")

    def test_none_where_it_is_unwanted_or_not_installed(self) -> None:
        assert not build(self.config(catalog={"bundled": False}), Path("/bundled.gguf")).models
        assert not build(self.config(), None).models
