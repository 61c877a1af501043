"""Forms (multipart/form-data): where their fields stand.

Reads no further than that: contents are never decoded, and nothing is changed.
"""

import re
from collections.abc import Iterator
from itertools import islice, pairwise

from llamaproxy.errors import DuplicateModel, InvalidRequest

MAX_FORM_PARTS = 1000
_BOUNDARY = re.compile(r'boundary=(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
# Anchored to a line: anywhere else, one line of a large form would be searched once for each of its bytes.
_MODEL_FIELD = re.compile(rb'\r\ncontent-disposition:[^\r\n]*;[ \t]*name="?model"?[ \t]*(?:;|\r\n)', re.IGNORECASE)


def is_form(content_type: str) -> bool:
    return content_type.lower().startswith("multipart/form-data")


def model_part(body: bytes, content_type: str) -> slice | None:
    """Where the value of a form's field `model` stands. Raises DuplicateModel, or InvalidRequest."""
    found = [slice(start, end) for head, start, end in _parts(body, content_type) if _MODEL_FIELD.search(head)]
    if len(found) > 1:
        raise DuplicateModel("the form names `model` more than once", param="model")
    return found[0] if found else None


def boundary_line(content_type: str) -> bytes:
    """What parts of a form begin with. Raises InvalidRequest."""
    if not (boundary := _BOUNDARY.search(content_type)):
        raise InvalidRequest("the form's content type has no boundary")
    return b"--" + (boundary[1] or boundary[2]).encode("utf-8", "surrogateescape")


def _parts(body: bytes, content_type: str) -> Iterator[tuple[bytes, int, int]]:
    """The head of each part of a form, and where its content begins and ends."""
    line = re.escape(boundary_line(content_type))
    marks = list(islice(re.finditer(rb"(?:\A|\r\n)" + line, body), MAX_FORM_PARTS + 2))
    if len(marks) > MAX_FORM_PARTS + 1:
        raise InvalidRequest(f"the form has more than {MAX_FORM_PARTS} parts")
    if not marks or not body.startswith(b"--", marks[-1].end()):
        raise InvalidRequest("the form is not complete")
    for mark, following in pairwise(marks):
        blank = body.find(b"\r\n\r\n", mark.end(), following.start())
        if blank >= 0:
            yield body[mark.end() : blank + 2], blank + 4, following.start()
