"""From Mastodon's variables to the Redis of its Sidekiq, by the rules of each release.

Sources: Mastodon's `lib/mastodon/redis_configuration.rb` (4.2: `redis_config.rb`), which builds an address with the gem
addressable, and what reads that address: redis-rb 4.8.1 (4.2, 4.3), redis-client 0.24.0 (4.4), 0.26.1 (4.5) and 0.29.0
(4.6). tests/adapters/mastodon/settings_table.jsonl has what they made of it. No problem repeats a value.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote, unquote_plus

from msgspec import structs

from fleetd.adapters.mastodon.dotenv import BLANK, Variables
from fleetd.adapters.mastodon.releases import NEWEST, Release
from fleetd.config.access_tables import DATABASES_MAX
from fleetd.config.connections import RedisSettings, whole_number
from fleetd.errors import ConfigProblem

_HOST = re.compile(r"(?=[._-]*[A-Za-z0-9])[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
#: RFC 3986, as Ruby's URI splits it.
_LETTER = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:]|%[0-9A-Fa-f]{2})"
_URL = re.compile(
    rf"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*):)?"
    rf"(?://(?:(?P<userinfo>{_LETTER}*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|(?:(?!:){_LETTER})*)(?::(?P<port>[0-9]*))?(?=[/?#]|\Z)|(?!//))"
    rf"(?P<path>(?:/|@|{_LETTER})*)(?:\?(?P<query>(?:[/?@]|{_LETTER})*))?(?:\#(?:[/?@]|{_LETTER})*)?"
)
_CURE = "Write redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://… for TLS, or unix:///PATH[?db=DB]"
_RESERVED = "percent-encode reserved characters in the password (@ as %40, / as %2F, # as %23)"
_WHERE = "Write a host name, an IPv4 address, or an IPv6 address in brackets."


def redis_settings(
    variables: Variables, problems: list[ConfigProblem], release: Release = NEWEST
) -> RedisSettings | None:
    """Where Sidekiq's keys are; None: a problem was added."""
    rules = _Rules(variables, problems, release)
    namespace = variables.get("REDIS_NAMESPACE", problems)
    if namespace is not None and release >= (4, 4):
        what = "is set, with which Mastodon does not start from 4.4 on"
        problems.append(ConfigProblem("REDIS_NAMESPACE", what, "Follow its upgrade notes, then remove it."))
        return None
    if namespace is not None and "@" in namespace:  # more likely an address with a password, and a namespace is shown
        what = "has an @ in it, as an address with a password has"
        problems.append(ConfigProblem("REDIS_NAMESPACE", what, "Write an address under REDIS_URL."))
        return None
    before = len(problems)
    settings = rules.sidekiq_to_4_2() if release <= (4, 2) else rules.sidekiq()
    if settings is None or len(problems) > before:
        return None
    return structs.replace(settings, namespace=namespace)


class _Rules:
    def __init__(self, variables: Variables, problems: list[ConfigProblem], release: Release) -> None:
        self._variables = variables
        self._problems = problems
        self._release = release

    def _get(self, name: str) -> str | None:
        return self._variables.get(name, self._problems)

    def sidekiq(self) -> RedisSettings | None:
        """All settings with the prefix SIDEKIQ_, or else all without it; never a mixture."""
        before = len(self._problems)
        settings = self._with_prefix("SIDEKIQ_REDIS_", None)
        if settings is None and len(self._problems) == before:
            settings = self._with_prefix("REDIS_", "localhost")
            if settings is None and len(self._problems) == before:
                what = "is empty, with which Mastodon does not start"
                self._problems.append(ConfigProblem("REDIS_HOST", what, _WHERE))
        return settings

    def _with_prefix(self, prefix: str, default_host: str | None) -> RedisSettings | None:
        """None: no address, Sentinel or host with this prefix, or a problem was added."""
        url = self._get(f"{prefix}URL")
        if url is not None:
            return self._from_url(url, f"{prefix}URL")
        master, listed = self._get(f"{prefix}SENTINEL_MASTER"), self._get(f"{prefix}SENTINELS")
        if not _blank(master) and (entries := _ruby_split(listed or "", ",")):
            return self._by_sentinel(prefix, master or "", entries)
        host = self._get(f"{prefix}HOST")
        host = default_host if host is None else host
        if host is None or not host:
            return None
        return self._by_host(prefix, host, self._get(f"{prefix}PORT") or "")

    def sidekiq_to_4_2(self) -> RedisSettings | None:
        """One part with the prefix SIDEKIQ_ is enough to leave the rest of the base configuration out."""
        for prefix, default_host in (("SIDEKIQ_REDIS_", None), ("REDIS_", "localhost")):
            url = self._get(f"{prefix}URL")
            if url is not None and not _blank(url):
                return self._from_url(url, f"{prefix}URL")
            parts = [self._get(f"{prefix}{part}") for part in ("PASSWORD", "HOST", "PORT", "DB")]
            if default_host is None and all(part is None for part in parts):
                continue
            host = parts[1] if parts[1] is not None else default_host
            return self._by_host(prefix, host or "", parts[2] or "")
        return None

    def _by_host(self, prefix: str, host: str, port_text: str) -> RedisSettings | None:
        before = len(self._problems)
        if not _HOST.fullmatch(host):
            what = "is no host, so Mastodon can't reach Redis" if host else "is missing or empty"
            self._problems.append(ConfigProblem(f"{prefix}HOST", what, _WHERE))
        port = self._number(port_text or "6379", f"{prefix}PORT", 1, 65_535)
        db = self._db(self._get(f"{prefix}DB") or "", f"{prefix}DB")
        username, password = self._login(prefix)
        if len(self._problems) > before or port is None or db is None:
            return None
        return self._with_login(
            RedisSettings(host=host.strip("[]").lower().removesuffix("."), port=port, db=db), username, password
        )

    def _by_sentinel(self, prefix: str, master: str, entries: list[str]) -> RedisSettings | None:
        before = len(self._problems)
        if not _HOST.fullmatch(master):
            what = "holds a character with which Mastodon does not start"
            self._problems.append(ConfigProblem(f"{prefix}SENTINEL_MASTER", what, "Use letters, digits, . _ and -."))
        db = self._db(self._get(f"{prefix}DB") or "", f"{prefix}DB")
        default_port = self._get(f"{prefix}SENTINEL_PORT")
        sentinels = self._sentinels(entries, "26379" if default_port is None else default_port, f"{prefix}SENTINELS")
        username, password = self._login(prefix)
        if len(self._problems) > before or db is None:
            return None
        settings = RedisSettings(
            db=db,
            sentinel_master=master if self._release >= (4, 4) else master.lower().removesuffix("."),
            sentinels=sentinels,
        )
        if self._release >= (4, 4):  # redis-rb gives Sentinels no password
            own_user, own_password = self._get(f"{prefix}SENTINEL_USERNAME"), self._get(f"{prefix}SENTINEL_PASSWORD")
            secret = self._get(f"{prefix}PASSWORD") if own_password is None else own_password
            if secret is not None:
                user = self._get(f"{prefix}USER") if own_user is None else own_user
                settings = structs.replace(
                    settings, sentinel_username="default" if user is None else user, sentinel_password=secret
                )
        return self._with_login(settings, username, password)

    def _sentinels(self, entries: list[str], default_port: str, key: str) -> tuple[tuple[str, int], ...]:
        addresses = []
        for entry in entries:
            parts = _ruby_split(entry, ":")
            # redis-client has a default for a host that is missing; a number may have blanks beside it.
            host = parts[0] if parts else "localhost" if self._release >= (4, 4) else ""
            port = parts[1].strip(BLANK) if len(parts) > 1 else default_port
            number = int(port) if re.fullmatch(r"\d{1,9}", port, re.ASCII) else 0
            if not host.strip() or not host.isprintable() or "@" in host or not 1 <= number <= 65_535:
                what = "has an entry that is not HOST or HOST:PORT; IPv6 addresses can't stand there"
                self._problems.append(ConfigProblem(key, what, "Write entries such as 10.0.0.5:26379."))
            addresses.append((host, number))
        return tuple(addresses)

    def _login(self, prefix: str) -> tuple[str | None, str | None]:
        """User and password as redis-client gets them: a URL normaliser has decoded %XX and taken off outer blanks."""
        user = None if self._release <= (4, 2) else self._get(f"{prefix}USER")
        password = self._get(f"{prefix}PASSWORD")
        user_text = None if _blank(user) else self._decoded(user or "", f"{prefix}USER")
        secret = None if _blank(password) else self._decoded(password or "", f"{prefix}PASSWORD")
        if self._release >= (4, 4):
            if secret is None:
                return None, user_text  # redis://user@host: that is the password
            return user_text and quote(user_text, safe="-._~"), secret  # never decoded again
        return user_text, secret

    def _decoded(self, text: str, key: str) -> str:
        try:
            return unicodedata.normalize("NFC", unquote(text.strip(BLANK), errors="strict"))
        except UnicodeDecodeError:
            what = "has a %XX that is not UTF-8"
            self._problems.append(ConfigProblem(key, what, "Write % itself as %25."))
            return ""

    def _with_login(self, settings: RedisSettings, username: str | None, password: str | None) -> RedisSettings:
        if password is None:  # neither client sends a user alone
            return settings
        if self._release >= (4, 4):  # HELLO 3 AUTH default PASSWORD, which a Redis without a password takes as well
            username = username or "default"
        return structs.replace(settings, username=username or None, password=password)

    def _db(self, text: str, key: str) -> int | None:
        if self._release >= (4, 4) and re.fullmatch(r"0[0-9]+", text):  # Ruby's Integer(): an octal number
            if re.search("[89]", text):
                what = "begins with 0 like an octal number, with which Mastodon does not start"
                self._problems.append(ConfigProblem(key, what, "Write it without the 0 in front."))
                return None
            return min(int(text, 8), DATABASES_MAX)
        return self._number(text or "0", key, 0, DATABASES_MAX)

    def _number(self, text: str, key: str, low: int, high: int) -> int | None:
        # A blank beside it becomes a part of the address, of which Ruby makes another number or none.
        return whole_number(text if text == text.strip() else "?", key, low, high, self._problems)

    def _from_url(self, url: str, key: str) -> RedisSettings | None:
        match = _URL.fullmatch(url)
        if match is None:
            self._problems.append(ConfigProblem(key, "is not a valid address", f"{_CURE}; {_RESERVED}."))
            return None
        scheme = (match["scheme"] or "").lower()
        unix = scheme == "unix" or (not scheme and self._release >= (4, 4))
        if not unix and scheme not in ("redis", "rediss"):
            what = "does not begin with redis://, rediss:// or unix://"
            self._problems.append(ConfigProblem(key, what, f"{_CURE}."))
            return None
        if unix:
            return self._from_socket(match, key)
        return self._from_address(match, key, tls=scheme == "rediss")

    def _from_address(self, match: re.Match[str], key: str, *, tls: bool) -> RedisSettings | None:
        path = match["path"]
        opaque = match["host"] is None and not path.startswith("/")  # redis:something
        if opaque:  # Ruby finds neither path nor query in that
            path = ""
        query = "" if opaque or self._release <= (4, 3) else _db_query(match["query"] or "")
        db = self._db(path.removeprefix("/") or query, f"{key}'s database")
        port = self._number(match["port"] or "6379", f"{key}'s port", 1, 65_535)
        host = (match["host"] or "").removeprefix("[").removesuffix("]")
        if not host and match["host"] is not None and self._release <= (4, 3):
            self._problems.append(ConfigProblem(key, "names no host", f"{_CURE}."))
            return None
        if db is None or port is None:
            return None
        default = "localhost" if self._release >= (4, 4) else "127.0.0.1"
        settings = RedisSettings(host=host or default, port=port, db=db, tls=tls)
        return self._with_login(settings, *self._login_in(match["userinfo"]))

    def _from_socket(self, match: re.Match[str], key: str) -> RedisSettings | None:
        path = match["path"]
        if match["host"] and self._release >= (4, 4):
            path = f"{match['host']}/{path.removeprefix('/')}"
        if not path.strip("/"):
            self._problems.append(ConfigProblem(key, "names no socket", f"{_CURE}."))
            return None
        if "@" in path:  # more likely a password at the wrong place, which would be shown
            self._problems.append(ConfigProblem(key, "has an @ in the path of the socket", f"{_CURE}."))
            return None
        if not path.startswith("/"):
            what = "names a socket by a path that begins in Mastodon's directory"
            self._problems.append(ConfigProblem(key, what, "Write the whole path, from /."))
            return None
        if self._release <= (4, 3):  # redis-rb takes nothing but the path
            return RedisSettings(unix_socket=path)
        db = self._db(_db_query(match["query"] or ""), f"{key}'s database")
        if db is None:
            return None
        return self._with_login(RedisSettings(unix_socket=path, db=db), *self._login_in(match["userinfo"]))

    def _login_in(self, userinfo: str | None) -> tuple[str | None, str | None]:
        if not userinfo:
            return None, None
        user, colon, password = userinfo.partition(":")
        if self._release <= (4, 3):  # an empty password is none
            return unquote_plus(user), unquote_plus(password) or None
        if not colon:
            return None, unquote_plus(user)
        return user, unquote_plus(password)


def _db_query(query: str) -> str:
    pairs = (pair.partition("=") for pair in query.split("&"))
    return next((unquote_plus(value) for name, _, value in pairs if unquote_plus(name) == "db"), "")


def _blank(text: str | None) -> bool:
    """Rails' blank?, for which blanks of any script are blanks."""
    return text is None or not text.strip()


def _ruby_split(text: str, separator: str) -> list[str]:
    """Ruby's split: without empty parts at the end."""
    parts = text.split(separator)
    while parts and not parts[-1]:
        parts.pop()
    return parts
