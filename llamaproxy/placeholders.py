"""What may stand as `${NAME}` in the command of a backend, and how it is filled in.

Owns the names and their meaning. Pure, and no shell: a word stays one word whatever is put into it.
"""

import re
from collections.abc import Iterable, Mapping

NAMES = ("port", "socket", "name", "api_key")
"""TCP port on 127.0.0.1, path of a Unix socket, the model's name, the random key that requests will carry."""
_PLACEHOLDER = re.compile(r"\$\{([^{}]*)\}")


def named(words: Iterable[str]) -> set[str]:
    """The names of all placeholders in these words. Raises ValueError for one that is not known."""
    found = {match[1] for word in words for match in _PLACEHOLDER.finditer(word)}
    if unknown := sorted(found.difference(NAMES)):
        known = ", ".join(f"${{{name}}}" for name in NAMES)
        raise ValueError(f"${{{ascii(unknown[0])[1:-1]:.40}}} is no placeholder; there are {known}")
    return found


def fill(word: str, values: Mapping[str, str]) -> str:
    """The word with its placeholders replaced, once: what a value holds is left as it is. KeyError: it has no value."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], word)
