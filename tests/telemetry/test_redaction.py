"""llamaproxy.telemetry.redaction: what looks like a secret does not get out, and what does not look like one does."""

import time

import pytest

from llamaproxy.telemetry.redaction import MASK, Redaction, is_suspicious, secrets_of

LONG = "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MA"


def redact(text: str, *known: str) -> str:
    redaction = Redaction()
    redaction.know(known)
    return redaction.redact(text)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Authorization: Bearer {LONG}", f"Authorization: Bearer {MASK}"),
        ("authorization: Basic dXNlcjpwYXNz", f"authorization: Basic {MASK}"),
        (f"x-api-key: {LONG}", f"x-api-key: {MASK}"),
        (f"key lp-{LONG} is unknown", f"key lp-{MASK} is unknown"),
        (f"sk-proj-{LONG}", f"sk-{MASK}"),
        (f"hf_{LONG}", f"hf_{MASK}"),
        ("AKIAABCDEFGHIJKLMNOP", MASK),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN", MASK),
        ("http://me:hunter22@10.0.0.1:80/x", f"http://{MASK}@10.0.0.1:80/x"),
        ("LLAMA_API_KEY=abcdef0123", f"LLAMA_API_KEY={MASK}"),
        ("{'HF_TOKEN': 'hunter22', 'n': 1}", f"{{'HF_TOKEN': '{MASK}', 'n': 1}}"),
        ("GET /x?api_key=abcdef&n=1", f"GET /x?api_key={MASK}&n=1"),
        ('{"api_key": "a \\"b\\" c", "n": 1}', f'{{"api_key": "{MASK}", "n": 1}}'),
        (r'{"arguments": "{\"password\": \"hunter22\"}"}', rf'{{"arguments": "{{\"password\": \"{MASK}\"}}"}}'),
        ('{"client_secret": "cut off her', f'{{"client_secret": "{MASK}'),
        (f'{{"token": "{LONG}"}}', f'{{"token": "{MASK}"}}'),
        ('{"Authorization": "Bearer x.y"}', f'{{"Authorization": "{MASK}"}}'),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, left: str) -> None:
    assert redact(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "m: started, pid 12, unix:/run/llamaproxy/x.sock",
        "print_info: EOS token = 2 '<|im_end|>'",
        "prompt eval time = 1.00 ms / 12 tokens (0.1 ms per token)",
        '{"max_tokens": 12, "token": " Hello", "top_logprobs": []}',
        "keys.alice.rpm: unknown key",
        "http://127.0.0.1:8080/v1",
        "the key to success",
    ],
)
def test_what_does_not_is_left_alone(text: str) -> None:
    assert redact(text) == text


def test_configured_secrets_are_known_whatever_they_look_like() -> None:
    assert redact("it said correct horse!", "correct horse") == f"it said {MASK}!"


def test_one_that_begins_like_another_is_masked_whole() -> None:
    assert redact("secret12345", "secret12", "secret12345") == MASK


def test_words_that_are_too_short_to_be_told_from_others_are_not_looked_for() -> None:
    assert redact("a busy model", "a", "busy") == "a busy model"


def test_secrets_of_a_configuration_before_are_forgotten() -> None:
    redaction = Redaction()
    redaction.know(["yesterdays"])
    redaction.know([])
    assert redaction.redact("yesterdays") == "yesterdays"


def test_names_tell_which_variables_are_secret() -> None:
    assert secrets_of({"HF_TOKEN": "a", "OPENAI_API_KEY": "b", "HOME": "/root", "N_TOKENS": "4"}) == ["a", "b"]
    assert not is_suspicious("prompt_tokens")


@pytest.mark.parametrize(
    "text",
    ['"' + "a" * 65536, "key " + "A" * 65536, "key" * 20000, '\\"token' * 9000, "a-" * 32000 + "key", "://" * 20000],
)
def test_no_text_takes_long(text: str) -> None:
    """Four times the text takes about four times as long; with a pattern that backtracks it would be sixteen."""

    def took(text: str) -> float:
        began = time.process_time()
        redact(text)
        return time.process_time() - began

    short = min(took(text) for _ in range(3))
    assert min(took(text * 4) for _ in range(3)) < 10 * short + 0.01
