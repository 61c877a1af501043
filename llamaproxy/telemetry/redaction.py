"""Secrets in text that somebody will read: what they look like, and what stands in their place.

Pure. The last defence, not the first: no key is handed to a logger or to an engine's arguments. It is for what slips
through, such as an address with a password in the message of an exception, or an engine that prints its environment.
Every pattern is bounded, so that no text takes more than linear time.
"""

import re
from collections.abc import Iterable, Mapping

MASK = "[redacted]"
SHORTEST = 8
"""Characters of a known secret that is looked for: a shorter one would be found in words that are none."""

_NAME = (
    r"[\w-]{0,40}?(?:api[-_]?key|secret|passw(?:or)?d|credential|private[-_]?key|"
    r"(?:access|refresh|auth|bearer|id|hf|session)[-_]?token)[\w-]{0,40}"
)
_SUSPICIOUS_NAME = re.compile(rf"(?:{_NAME}|(?:proxy-)?authorization|token|cookie)", re.IGNORECASE)
_TOKEN = r"[A-Za-z0-9._~+/=-]"
_SHAPES = re.compile(
    "|".join(
        (
            # A field of JSON; a value that was cut off ends with the text. The second is JSON in a text of JSON.
            rf'(?P<field>"(?:{_NAME}|(?:proxy-)?authorization)"\s{{0,8}}:\s{{0,8}}")(?:[^"\\]|\\.)*',
            rf'(?P<nested>\\"(?:{_NAME}|(?:proxy-)?authorization)\\{{1,8}}"\s{{0,8}}:\s{{0,8}}\\{{1,8}}")[^"\\]*',
            rf'(?P<token>"token\\{{0,8}}"\s{{0,8}}:\s{{0,8}}\\{{0,8}}"){_TOKEN}{{16,}}',
            # `name=value`, `name: value`, as in environments, headers and the query of a URL.
            rf"(?P<pair>(?<![\w-]){_NAME}'?\s{{0,4}}[=:]\s{{0,4}}'?)[^\s\"'&;,]{{4,}}",
            r"(?P<scheme>\b(?:authorization\s{0,4}[=:]\s{0,4}(?:[a-z]{1,20}\s{1,4})?|bearer\s{1,4}))[^\s\"'&;,\\]{4,}",
            r"(?P<login>://)[^\s/@\"']{1,512}@",
            rf"(?P<prefix>\b(?:sk|lp|hf|gsk|xai|nvapi|ghp|gho|github_pat|glpat|xox[abp])[-_]){_TOKEN}{{16,}}",
            r"\bAKIA[0-9A-Z]{16}\b",
            r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}",
        )
    ),
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_SIGNS = (
    'key secret passw credential access refresh auth bearer session id_token id-token hf_token hf-token "token :// '
    "sk- sk_ lp- lp_ hf- hf_ gsk xai nvapi ghp gho github glpat xox akia eyj"
).split()
"""One of these stands in every text with a secret. Looking for them is cheaper: most lines have none."""


def is_suspicious(name: str) -> bool:
    """Whether what is called so is a secret."""
    return bool(_SUSPICIOUS_NAME.fullmatch(name))


class Redaction:
    """`redact` masks what looks like a secret, and what it was told to be one."""

    def __init__(self) -> None:
        self._known: re.Pattern[str] | None = None

    def know(self, secrets: Iterable[str]) -> None:
        """These, from now on, and not those of before. Too short ones are left alone."""
        longest_first = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def redact(self, text: str) -> str:
        if self._known:
            text = self._known.sub(MASK, text)
        lowered = text.lower()
        return _SHAPES.sub(_masked, text) if any(sign in lowered for sign in _SIGNS) else text


REDACTION = Redaction()
"""The process's, as its log is."""


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """The values of variables whose names say what they hold."""
    return [value for name, value in environment.items() if is_suspicious(name)]


def _masked(match: re.Match[str]) -> str:
    end = "@" if match.lastgroup == "login" else ""
    return f"{match[match.lastgroup] if match.lastgroup else ''}{MASK}{end}"
