"""llamaproxy.core.complaint: words of llama-server b11434 as it said them."""

import pytest

from llamaproxy.core.complaint import Complaint


def said(*words: bytes) -> bool:
    complaint = Complaint()
    for piece in words:
        complaint.feed(piece)
    return complaint.of_client


def error(message: str) -> bytes:
    return b'{"error":{"code":500,"message":"%b","type":"server_error"}}' % message.encode()


@pytest.mark.parametrize(
    "message",
    [
        "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        "audio input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
        "Failed to parse tools: Missing tool type: null; tools = [\\n  null\\n]",
        "Failed to parse messages: [json.exception.out_of_range.403] key 'text' not found",
        "vector::_M_range_check: __n (which is 99999999) >= this->size() (which is 49152)",
    ],
)
def test_mistakes_of_clients(message: str) -> None:
    whole = error(message)
    assert said(whole)
    assert said(*(whole[at : at + 1] for at in range(len(whole)))), "however it is cut"


@pytest.mark.parametrize(
    "answer",
    [
        error("Compute error."),
        error("Invalid input batch."),
        error("no"),
        b"",
        b"Internal Server Error",
        error("x").replace(b'"x"', b'"Compute error.","prompt":"image input is not supported"'),
    ],
)
def test_everything_else_is_the_engines_own(answer: bytes) -> None:
    assert not said(answer)


def test_words_far_into_an_answer_are_what_a_client_may_have_written() -> None:
    assert not said(b" " * 5000, error("image input is not supported"))
