"""llamaproxy.core.forms: fields of forms, and where they stand."""

import pytest

from llamaproxy.core.forms import MAX_FORM_PARTS, is_form, model_part
from llamaproxy.errors import DuplicateModel, InvalidRequest


def said(body: bytes, content_type: str) -> bytes | None:
    """The content of the form's field `model`."""
    found = model_part(body, content_type)
    return body[found] if found else None


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
        ([("file", b"\x00RIFF"), ("model", b"whisper")], b"whisper"),
        ([("model", b"whisper"), ("file", b"data")], b"whisper"),
        ([("model", b"\xff")], b"\xff"),
        ([("model", b"")], b""),
        ([("file", b"data")], None),
        ([("model_name", b"no"), ("the model", b"no")], None),
        ([("file", b'\r\n\r\nContent-Disposition: form-data; name="model"\r\n\r\nno'), ("model", b"yes")], b"yes"),
        ([("file", b"--x"), ("model", b"yes")], b"yes"),
    ],
)
def test_model_of_a_form(fields: list[tuple[str, bytes]], model: bytes | None) -> None:
    assert said(form(*fields), FORM) == model


@pytest.mark.parametrize(
    "kind", ['Multipart/Form-Data; Boundary="x"', "multipart/form-data; charset=utf-8; boundary=x;"]
)
@pytest.mark.parametrize(
    "line", ["content-disposition:form-data;name=model", 'X-A: 1\r\nContent-Disposition: a; name="model"; b']
)
def test_spellings_of_a_form(kind: str, line: str) -> None:
    assert said(f"preamble\r\n--x\r\n{line}\r\nX-B: 2\r\n\r\nm\r\n--x--".encode(), kind) == b"m"


def test_boundary_is_taken_literally() -> None:
    body = form(("model", b"m")).replace(b"--x", b"--(.+)")
    assert said(body, 'multipart/form-data; boundary="(.+)"') == b"m"


def test_part_without_a_head_is_no_field() -> None:
    assert said(b'--x\r\nContent-Disposition: form-data; name="model"\r\n--x--', FORM) is None


def test_form_that_names_two_models_is_refused() -> None:
    with pytest.raises(DuplicateModel):
        said(form(("model", b"a"), ("model", b"b")), FORM)


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
        said(body, kind)


def test_form_may_have_many_parts() -> None:
    assert said(form(*[("f", b"")] * (MAX_FORM_PARTS - 1), ("model", b"m")), FORM) == b"m"


@pytest.mark.parametrize(
    "filling", [b"content-disposition:", b"; ", b"; name=model ", b" ", b"\r\ncontent-disposition:;"]
)
def test_large_form_is_read_once_and_not_once_for_each_byte(filling: bytes) -> None:
    """Quadratic work on these would take minutes."""
    head = b"--x\r\nContent-Disposition: form-data; " + filling * (2_000_000 // len(filling))
    assert said(head + b"\r\n\r\nm\r\n--x--", FORM) in (None, b"m")


@pytest.mark.parametrize(("kind", "is_one"), [("Multipart/Form-Data; boundary=x", True), ("application/json", False)])
def test_what_is_a_form(kind: str, is_one: bool) -> None:
    assert is_form(kind) is is_one
