"""Takes secrets out of text and of log fields, whatever library wrote them.

This is the last line of defence: whoever builds a message leaves secrets out in the first place.
"""

from __future__ import annotations

import re

HIDDEN = "[hidden]"

_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30}://)[^\s/?#@]*(?:@[^\s/?#@]*)*@")
_ASSIGNED = re.compile(
    r"(?P<name>\b\w*(?:password|passwd|passphrase|secret|passfile|api_?key|(?<!\w)pass|_pass)\w*"
    r"['\"]?\s*(?:=>|[=:])\s*)"
    r"(?P<value>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s,;&)}\]]+)",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(
    r"(?:^|[_.\- ])(?:password|passwd|pass|passphrase|secret|secrets|dsn|conninfo|credentials?|authorization|"
    r"auth|cookie|api_?key|private_?key|ur[li]|token)$",
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """`text` without the userinfo of URLs and without values assigned to names like `password`."""
    if "://" in text:
        text = _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _ASSIGNED.sub(rf"\g<name>{HIDDEN}", text)


def names_secret(name: str) -> bool:
    """Whether a field of this name is hidden whole: password, db_pass, redis_url, dsn, token, …"""
    return _SECRET_NAME.search(name) is not None
