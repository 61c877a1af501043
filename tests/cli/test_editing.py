"""llamaproxy.cli.editing: what was asked for changes, and nothing else."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaproxy.cli import editing
from llamaproxy.errors import ConfigError, InvalidRequest, NotFound

TEXT = """\
# My models.
[limits]
models_max = 2  # both fit

[models.a]  # the small one
path = "/a.gguf"
ttl = "5m"   # long enough

# The large one.
[models."b:1"]
path = '/b.gguf'
env = { A = "1" }
"""
A = ("models", "a")


class TestSettings:
    @pytest.mark.parametrize(
        ("word", "path", "value"),
        [
            ("ctx_size=8192", ("ctx_size",), 8192),
            ("pinned=true", ("pinned",), True),
            ("path=/m/q.gguf", ("path",), "/m/q.gguf"),
            ("ttl=10m", ("ttl",), "10m"),
            ('description="1"', ("description",), "1"),
            ("description=", ("description",), ""),
            ("url=http://a/?b=c", ("url",), "http://a/?b=c"),
            ('aliases=["a", "b"]', ("aliases",), ["a", "b"]),
            ("env.CUDA_VISIBLE_DEVICES=0", ("env", "CUDA_VISIBLE_DEVICES"), "0"),
            ("set_params.top.k=5", ("set_params", "top.k"), 5),
            ("description=1\nport = 2", ("description",), "1\nport = 2"),
        ],
    )
    def test_values_are_toml_or_else_text(self, word: str, path: tuple[str, ...], value: object) -> None:
        assert editing.settings([word]) == {path: value}

    @pytest.mark.parametrize("word", ["pinned", "=1", ""])
    def test_what_is_none(self, word: str) -> None:
        with pytest.raises(InvalidRequest, match="KEY=VALUE"):
            editing.settings([word])


class TestAdd:
    def test_it_comes_last_and_the_rest_stays(self) -> None:
        text = editing.add(TEXT, ("models", "c:2"), {("path",): "/c.gguf", ("env", "X"): "1"})
        assert text.startswith(TEXT)
        assert text.removeprefix(TEXT) == '\n[models."c:2"]\npath = "/c.gguf"\n\n[models."c:2".env]\nX = "1"\n'

    def test_into_an_empty_file(self) -> None:
        assert editing.add("", A, {("path",): "/a"}) == '[models.a]\npath = "/a"\n'

    def test_models_that_are_one_value_take_no_other(self) -> None:
        with pytest.raises(ConfigError, match="by hand"):
            editing.add('models = { a = { path = "/a" } }\n', ("models", "b"), {("path",): "/b"})

    @pytest.mark.parametrize("text", ["models = 1\n", "[[models]]\n", "models.a = 1\n", "models.a.env = 1\n"])
    def test_what_should_be_a_table_and_is_none(self, text: str) -> None:
        with pytest.raises(ConfigError, match="by hand"):
            editing.add(text, A, {("env", "X"): "1"})
        with pytest.raises(ConfigError, match="by hand"):
            editing.change(text, A, {}, [("env", "X")])


class TestChange:
    def test_a_value_keeps_its_comment(self) -> None:
        text = editing.change(TEXT, A, {("ttl",): "1h"})
        assert text == TEXT.replace('ttl = "5m"   # long', 'ttl = "1h"   # long')

    def test_a_new_key_and_one_less(self) -> None:
        text = editing.change(TEXT, A, {("pinned",): True}, [("ttl",)])
        assert tomllib.loads(text)["models"]["a"] == {"path": "/a.gguf", "pinned": True}
        assert "# The large one." in text

    def test_a_section_that_is_not_there_begins(self) -> None:
        assert tomllib.loads(editing.change(TEXT, ("server",), {("port",): 9000}))["server"] == {"port": 9000}

    def test_variables_one_by_one(self) -> None:
        text = editing.change(TEXT, ("models", "b:1"), {("env", "B"): "2"}, [("env", "A")])
        assert tomllib.loads(text)["models"]["b:1"]["env"] == {"B": "2"}

    def test_what_is_not_there_cannot_go(self) -> None:
        with pytest.raises(NotFound, match=r"models\.a\.port"):
            editing.change(TEXT, A, {}, [("port",)])

    def test_dotted_keys_and_line_ends_of_windows_stay(self) -> None:
        text = 'server.port = 1\r\nmodels.a.path = "/a" # mine\r\n'
        assert editing.change(text, A, {("path",): "/b"}) == text.replace('"/a"', '"/b"')

    def test_a_value_is_no_table(self) -> None:
        with pytest.raises(ConfigError):
            editing.change('models = "x"', A, {("path",): "/b"})


class TestRemove:
    def test_it_goes_with_all_that_is_in_it(self) -> None:
        text = editing.remove(TEXT + '\n[models.a.env]\nX = "1"\n', A)
        assert list(tomllib.loads(text)["models"]) == ["b:1"]
        assert "# The large one." in text

    def test_the_last_one(self) -> None:
        assert tomllib.loads(editing.remove('[models.a]\npath = "/a"\n', A)).get("models", {}) == {}

    def test_what_is_not_there(self) -> None:
        with pytest.raises(NotFound, match=r"models\.x"):
            editing.remove(TEXT, ("models", "x"))


SECTIONS = [
    '[models.{n}]\npath = "/{n}"\n',
    '[models.{n}]  # {n}\npath = "/{n}"\n[models.{n}.env]\nX = "1"\n',
    'models.{n}.path = "/{n}"\n',
]


@given(st.lists(st.sampled_from(SECTIONS), min_size=1, max_size=4), st.booleans(), st.data())
def test_whatever_a_file_looks_like_it_is_edited_rightly_or_not_at_all(
    shapes: list[str], between: bool, data: st.DataObject
) -> None:
    """Tables of other sections stand between those of models."""
    ordered = sorted(enumerate(shapes), key=lambda one: one[1].startswith("["))
    parts = [shape.format(n=f"m{number}") for number, shape in ordered]
    if between and len(parts) > 1 and parts[0].startswith("["):
        parts.insert(1, "[server]\nport = 1\n")
    text = "".join(parts)
    name = data.draw(st.sampled_from([f"m{number}" for number in range(len(shapes))]))
    before = tomllib.loads(text)
    try:
        changed = editing.change(text, ("models", name), {("ttl",): 5})
        removed = editing.remove(text, ("models", name))
    except ConfigError as error:
        assert "by hand" in error.message
        return
    before["models"][name]["ttl"] = 5
    assert tomllib.loads(changed) == before
    del before["models"][name]
    assert tomllib.loads(removed).get("models", {}) == before["models"]
