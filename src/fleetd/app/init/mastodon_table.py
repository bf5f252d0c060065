"""The keys of [mastodon] that a Mastodon needs which is not quite the guide's, and what fleetd takes of them."""

from __future__ import annotations

import json

from fleetd.app.init.found import MastodonFound
from fleetd.config import Settings, parse
from fleetd.errors import ConfigError

_USUAL = MastodonFound()
#: Something to load; which profiles there will be is not known yet.
_ANY_PROFILE = '\n[profiles.any]\ninstances = "1-1"\n'


def mastodon_keys(mastodon: MastodonFound) -> dict[str, str]:
    """Those that differ from fleetd's defaults."""
    keys = {}
    if mastodon.directory != _USUAL.directory:
        keys["env_file"] = f"{mastodon.directory}/.env.production"
    if mastodon.user != _USUAL.user:
        keys["user"] = mastodon.user
    if mastodon.exec is not None:
        keys["exec"] = mastodon.exec
    return keys


def written(key: str, value: str | int) -> str:
    """The line of a key."""
    return f"{key} = {json.dumps(value, ensure_ascii=False)}"


def takes(key: str, value: str) -> bool:
    """Whether fleetd takes this value of a key of [mastodon]."""
    try:
        parse(f"[mastodon]\n{written(key, value)}\n{_ANY_PROFILE}", machine_host="init")
    except ConfigError:
        return False
    return True


def settings_for(mastodon: MastodonFound) -> Settings:
    """As fleetd would have them with this Mastodon; without what it does not take."""
    lines = [written(key, value) for key, value in mastodon_keys(mastodon).items() if takes(key, value)]
    return parse("\n".join(["[mastodon]", *lines]) + _ANY_PROFILE, machine_host="init")
