"""llamaproxy.server.sessions: names that stand for keys, and end."""

import pytest

from llamaproxy.server.sessions import LIFETIME, Sessions, token_of


def test_session_stands_for_its_key_until_it_ends() -> None:
    sessions = Sessions()
    token, other = sessions.begin("key"), sessions.begin("key")
    assert token != other
    assert sessions.fingerprint(token) == "key"
    sessions.end(token)
    assert sessions.fingerprint(token) is None
    assert sessions.fingerprint(other) == "key"
    sessions.end("never was")


def test_session_expires() -> None:
    now = [1000.0]
    sessions = Sessions(lambda: now[0])
    token = sessions.begin("key")
    now[0] += LIFETIME - 1
    assert sessions.fingerprint(token)
    now[0] += 1
    assert sessions.fingerprint(token) is None


def test_oldest_goes_for_the_newest() -> None:
    sessions = Sessions(most=2)
    tokens = [sessions.begin(name) for name in "abc"]
    assert [sessions.fingerprint(token) for token in tokens] == [None, "b", "c"]


def test_no_secret_is_kept() -> None:
    sessions = Sessions()
    token = sessions.begin("key")
    assert token not in repr(vars(sessions))


TOKEN = "t" * 43


@pytest.mark.parametrize(
    ("field", "token"),
    [
        (f"llamaproxy_session={TOKEN}", TOKEN),
        (f"a=b; llamaproxy_session={TOKEN}; c=d", TOKEN),
        (f"a=b;llamaproxy_session={TOKEN};c=d", TOKEN),
        *(
            (field, None)
            for field in ("", "llamaproxy_session=", f"llamaproxy_session={TOKEN}t", f"xllamaproxy_session={TOKEN}")
        ),
        (f'llamaproxy_session="{TOKEN}"', None),
    ],
)
def test_cookie(field: str, token: str | None) -> None:
    assert token_of(field) == token
