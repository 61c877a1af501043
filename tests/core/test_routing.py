"""Endpoint, dialect and model of a request."""

import pytest

from llamaproxy.core.routing import (
    ENDPOINTS,
    MAX_FORM_PARTS,
    SLOT,
    Dialect,
    Endpoint,
    Wish,
    below_upstream,
    dialect_of,
    normalise,
    read_body,
    resolve,
    touches_slot_files,
    upstream,
)
from llamaproxy.core.routing import (
    climbs as leads_out,
)
from llamaproxy.errors import DuplicateModel, GatewayError, InvalidJson, InvalidRequest

JSON = "application/json"


@pytest.mark.parametrize(
    ("path", "spelled"),
    [("/", "/"), ("//", "/"), ("/v1/models/", "/v1/models"), ("//v1//chat///completions", "/v1/chat/completions")],
)
def test_slashes_are_forgiven(path: str, spelled: str) -> None:
    assert normalise(path) == spelled


@pytest.mark.parametrize(
    ("path", "engine_path", "dialect", "light"),
    [
        ("/v1/chat/completions", "/v1/chat/completions", Dialect.OPENAI, False),
        ("/chat/completions", "/chat/completions", Dialect.OPENAI, False),
        ("/completions", "/completions", Dialect.NATIVE, False),
        ("/responses", "/responses", Dialect.RESPONSES, False),
        ("/v1/messages", "/v1/messages", Dialect.ANTHROPIC, False),
        ("/messages", "/v1/messages", Dialect.ANTHROPIC, False),
        ("/v1/messages/count_tokens", "/v1/messages/count_tokens", Dialect.ANTHROPIC, True),
        ("/tokenize", "/tokenize", Dialect.NATIVE, True),
        ("/v1/audio/transcriptions", "/v1/audio/transcriptions", Dialect.OPENAI, False),
    ],
)
def test_engine_routes(path: str, engine_path: str, dialect: Dialect, light: bool) -> None:
    spelled, endpoint = resolve(path)
    assert endpoint
    assert (spelled, endpoint.dialect, endpoint.light) == (engine_path, dialect, light)


@pytest.mark.parametrize(("path", "endpoint"), ENDPOINTS.items())
def test_every_route_has_itself_and_says_how_it_is_asked(path: str, endpoint: Endpoint) -> None:
    assert resolve(normalise(path)) == (path, endpoint)
    assert endpoint.methods <= {"GET", "POST"}
    assert endpoint.methods
    assert not endpoint.name.startswith("/")


def test_spellings_of_a_route_are_one_endpoint() -> None:
    assert len({ENDPOINTS[path].name for path in ("/v1/embeddings", "/embeddings", "/embedding")}) == 1
    assert ENDPOINTS["/props"].methods == {"GET", "POST"}
    assert ENDPOINTS["/slots"].methods == {"GET"}


def test_slots_by_number_and_nothing_else() -> None:
    assert resolve("/slots/3") == ("/slots/3", SLOT)
    assert resolve("/slots/") == ("/slots/", None)
    assert resolve("/slots/x") == ("/slots/x", None)
    assert resolve("/slots/3/x") == ("/slots/3/x", None)
    assert resolve("/v1/nothing") == ("/v1/nothing", None)


def test_errors_follow_the_dialect_of_the_path_even_where_there_is_nothing() -> None:
    assert dialect_of("//v1/messages/") is Dialect.ANTHROPIC
    assert dialect_of("/nowhere") is Dialect.OPENAI


@pytest.mark.parametrize(
    ("body", "wish"),
    [
        (b"", Wish(None, False)),
        (b"{}", Wish(None, False)),
        (b'{"model": "m", "stream": true}', Wish("m", True)),
        (b'{"model": "m", "stream": "true"}', Wish("m", False)),
        (b'{"model": ""}', Wish(None, False)),
        (b'{"model": null}', Wish(None, False)),
        (b'{"mod\\u0065l": "m"}', Wish("m", False)),
        (b'[{"id": 0, "scale": 1}]', Wish(None, False)),
        (b'{"model": "m", "x": {"model": "inner"}, "y": "\\"model\\""}', Wish("m", False)),
        (b'{"model": "\\u00fc", "text": "\\u0041"}', Wish("ü", False)),
        (b'{"model": "m", "text": "\\u006dodel"}', Wish("m", False)),
        (b'{"x": [{"model": "inner"}, {"model": "inner"}], "stream": true}', Wish(None, True)),
    ],
)
def test_wish_of_a_body(body: bytes, wish: Wish) -> None:
    assert read_body(body, JSON) == wish


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", InvalidJson),
        (b"\xef\xbb\xbf{}", InvalidJson),
        (b'{"a": NaN}', InvalidJson),
        (b'{"a": "\xff"}', InvalidJson),
        (b"[" * 100_000, InvalidJson),
        (b'{"a":' * 101 + b"1" + b"}" * 101, InvalidJson),
        (b'"text"', InvalidRequest),
        (b"1", InvalidRequest),
        (b'{"model": 5}', InvalidRequest),
        (b'{"model": ["m"]}', InvalidRequest),
        (b'{"model": "a", "model": "b"}', DuplicateModel),
        (b'{"model": "a", "mod\\u0065l": "b"}', DuplicateModel),
        (b'{"\\u006dodel": "a", "mode\\u006C": "b"}', DuplicateModel),
        (b'{"model": "a", "model": "a"}', DuplicateModel),
        (b'{"model": "a",}', InvalidJson),
        (b'{"model": Infinity}', InvalidJson),
        (b"{} {}", InvalidJson),
        (b"null", InvalidRequest),
        (b'{"model": true}', InvalidRequest),
    ],
)
def test_bodies_that_are_refused(body: bytes, error: type[GatewayError]) -> None:
    with pytest.raises(GatewayError) as refused:
        read_body(body, JSON)
    assert type(refused.value) is error


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/messages", b"", "messages"),
        ("/v1/messages", b"[]", "messages"),
        ("/v1/messages/count_tokens", b'{"model": "m"}', "messages"),
        ("/v1/chat/completions", b'{"tools": 1}', "tools"),
        ("/chat/completions/input_tokens", b'{"tools": {}}', "tools"),
        ("/apply-template", b'{"tools": "x"}', "tools"),
    ],
)
def test_mistakes_that_the_engine_would_take_for_its_own_are_refused(path: str, body: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_body(body, JSON, ENDPOINTS[path])
    assert refused.value.param == field


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages", b'{"messages": 1}'),
        ("/v1/chat/completions", b"{}"),
        ("/v1/chat/completions", b'{"tools": null}'),
        ("/v1/chat/completions", b'{"tools": []}'),
        ("/v1/completions", b'{"tools": 1}'),
        ("/props", b""),
    ],
)
def test_what_else_is_wrong_the_engine_says_itself(path: str, body: bytes) -> None:
    assert read_body(body, JSON, ENDPOINTS[path]) == Wish(None, False)


def test_many_brackets_side_by_side_are_not_deep() -> None:
    body = b'{"model": "m", "messages": [' + b",".join([b'{"content": [{}]}'] * 500) + b"]}"
    assert read_body(body, JSON).model == "m"
    assert read_body(b'{"a":' * 100 + b"1" + b"}" * 100, JSON) == Wish(None, False)
    assert read_body(b'{"text": "' + b"[{" * 500 + b'"}', JSON) == Wish(None, False)


def test_form_has_nothing_of_what_json_needs() -> None:
    assert read_body(form(("model", b"m")), FORM, ENDPOINTS["/v1/audio/transcriptions"]).model == "m"
    with pytest.raises(InvalidRequest):
        read_body(form(("model", b"m"), ("messages", b"[]")), FORM, ENDPOINTS["/v1/messages"])


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = (
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value)
        for name, value in fields
    )
    return b"".join(parts) + b"--x--\r\n"


FORM = "multipart/form-data; boundary=x"


@pytest.mark.parametrize(
    ("fields", "model"),
    [
        ([("file", b"\x00RIFF"), ("model", b"whisper")], "whisper"),
        ([("model", b"whisper"), ("file", b"data")], "whisper"),
        ([("model", "größer".encode())], "größer"),
        ([("model", b"\xff")], "\ufffd"),
        ([("model", b"")], None),
        ([("file", b"data")], None),
        ([("model_name", b"no"), ("the model", b"no")], None),
        ([("file", b'\r\n\r\nContent-Disposition: form-data; name="model"\r\n\r\nno'), ("model", b"yes")], "yes"),
        ([("file", b"--x"), ("model", b"yes")], "yes"),
    ],
)
def test_model_of_a_form(fields: list[tuple[str, bytes]], model: str | None) -> None:
    assert read_body(form(*fields), FORM) == Wish(model, False)


@pytest.mark.parametrize(
    "kind", ['Multipart/Form-Data; Boundary="x"', "multipart/form-data; charset=utf-8; boundary=x;"]
)
@pytest.mark.parametrize(
    "line", ["content-disposition:form-data;name=model", 'X-A: 1\r\nContent-Disposition: a; name="model"; b']
)
def test_spellings_of_a_form(kind: str, line: str) -> None:
    assert read_body(f"preamble\r\n--x\r\n{line}\r\nX-B: 2\r\n\r\nm\r\n--x--".encode(), kind).model == "m"


def test_boundary_is_taken_literally() -> None:
    body = form(("model", b"m")).replace(b"--x", b"--(.+)")
    assert read_body(body, 'multipart/form-data; boundary="(.+)"').model == "m"


def test_part_without_a_head_is_no_field() -> None:
    assert read_body(b'--x\r\nContent-Disposition: form-data; name="model"\r\n--x--', FORM).model is None


def test_form_that_names_two_models_is_refused() -> None:
    with pytest.raises(DuplicateModel):
        read_body(form(("model", b"a"), ("model", b"b")), FORM)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (form(("model", b"m")), "multipart/form-data"),
        (form(("model", b"m")), "multipart/form-data; boundary=y"),
        (form(("model", b"m"))[:-4], FORM),
        (b"nothing", FORM),
        (form(*[("f", b"")] * (MAX_FORM_PARTS + 1)), FORM),
    ],
)
def test_forms_that_are_refused(body: bytes, kind: str) -> None:
    with pytest.raises(InvalidRequest):
        read_body(body, kind)


def test_form_may_have_many_parts() -> None:
    assert read_body(form(*[("f", b"")] * (MAX_FORM_PARTS - 1), ("model", b"m")), FORM).model == "m"


@pytest.mark.parametrize(
    "filling", [b"content-disposition:", b"; ", b"; name=model ", b" ", b"\r\ncontent-disposition:;"]
)
def test_large_form_is_read_once_and_not_once_for_each_byte(filling: bytes) -> None:
    """Quadratic work on these would take minutes."""
    head = b"--x\r\nContent-Disposition: form-data; " + filling * (2_000_000 // len(filling))
    assert read_body(head + b"\r\n\r\nm\r\n--x--", FORM).model in (None, "m")


def test_below_upstream_reading_and_known_light_routes_are_light() -> None:
    assert upstream("GET", "/anything").light
    assert not upstream("POST", "/anything").light
    assert upstream("POST", "/tokenize").light
    messages = upstream("POST", "//v1/messages/")
    assert (messages.name, messages.dialect, messages.light) == ("upstream", Dialect.ANTHROPIC, False)


def test_upstream_prefix_is_cut_once_and_the_rest_stays() -> None:
    assert below_upstream("/upstream/m/a//b/") == "m/a//b/"
    assert below_upstream("//upstream//m/upstream/") == "m/upstream/"


@pytest.mark.parametrize(
    ("path", "climbs"),
    [
        ("/v1/../admin", True),
        ("/%2e%2E/x", True),
        ("/a/.%2e%2fb", True),
        ("/a\\..\\b", True),
        ("/..", True),
        ("/v1/models/a..b", False),
        ("/...", False),
        ("/v1//./x", False),
    ],
)
def test_paths_that_lead_out_of_where_they_are_put(path: str, climbs: bool) -> None:
    assert leads_out(path) is climbs


@pytest.mark.parametrize(
    ("method", "target", "touches"),
    [
        ("POST", "/slots/0?action=save", True),
        ("POST", "/slots/0?action=restore&model=m", True),
        ("POST", "/slots/0?%61ction=save", True),
        ("POST", "/%73lots/0?action=save", True),
        ("POST", "//slots//0?action=save", True),
        ("POST", "/slots/0?action=erase&action=save", True),
        ("POST", "/slots/0", True),
        ("POST", "/slots/0?action=erase", False),
        ("GET", "/slots", False),
        ("POST", "/completion?action=save", False),
    ],
)
def test_slot_files_are_touched_under_every_spelling(method: str, target: str, touches: bool) -> None:
    assert touches_slot_files(method, target) is touches
