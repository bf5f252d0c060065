"""What answers where the workers connect: asked at the start and now and then, and kept for fleetd-render.

fleetd-render has no network, so it gives workers names only after fleetd has found that one arrives
(adapters/host/found_file.py). fleetd-render.path then renders again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import structs

from fleetd.adapters.database.pooler import find_pooler
from fleetd.adapters.host.found_file import read_found, write_found
from fleetd.adapters.host.readings import SETTINGS_DIRECTORY
from fleetd.adapters.mastodon.env_file import EnvFile
from fleetd.app.route import place_of, workers_logins
from fleetd.config import Settings
from fleetd.config.connections import PostgresSettings
from fleetd.core.model.found_pooler import FoundPooler
from fleetd.errors import SourceUnavailableError

#: While nobody has answered, and once somebody has.
RETRY_SECONDS, AGAIN_SECONDS = 30.0, 600.0
#: For fleetd-render to write names, before the first worker is started without one.
RENDERED_SECONDS = 5.0

Find = Callable[[PostgresSettings], Awaitable[FoundPooler]]


class PoolerSearch:
    """`directory`: fleetd's state. `found`: the last answer, also of an earlier start; None: there was none."""

    def __init__(
        self, directory: Path, *, find: Find = find_pooler, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._find = find
        self._monotonic = monotonic
        self._next_seconds = 0.0
        self.found = read_found(directory)

    @property
    def due(self) -> bool:
        return self._monotonic() >= self._next_seconds

    async def ask(self, settings: Settings, env: EnvFile) -> bool:
        """Ask once, for some seconds at most. Returns whether something else was found than before."""
        before = self.found
        found = await who_answers(settings, env, self._find)
        if found is not None:  # else what was found before counts
            self.found = found
            write_found(self._directory, found)
        answered = found is not None or not workers_logins(settings, env)
        self._next_seconds = self._monotonic() + (AGAIN_SECONDS if answered else RETRY_SECONDS)
        return self.found != before

    async def rendered(self, rendered: Path = SETTINGS_DIRECTORY) -> None:
        """Wait until names are rendered, where some may be; for RENDERED_SECONDS at most."""
        deadline = self._monotonic() + RENDERED_SECONDS
        while self._monotonic() < deadline and _lacks_names(rendered):  # noqa: ASYNC110 - root writes files
            await asyncio.sleep(0.1)


async def who_answers(settings: Settings, env: EnvFile, find: Find = find_pooler) -> FoundPooler | None:
    """Asked with each of the logins there are, until one works; None: none did, or there is no need to ask."""
    for login in workers_logins(settings, env):
        try:
            return structs.replace(await find(login), place=place_of(login))
        except SourceUnavailableError:  # the readings say why
            continue
    return None


def found_before(settings: Settings) -> FoundPooler | None:
    """What fleetd last found; None: it has not asked, or we may not read it."""
    return read_found(Path(settings.state.directory))


def _lacks_names(rendered: Path) -> bool:
    try:
        texts = [path.read_text(errors="replace") for path in rendered.glob("*.env")]
    except OSError:
        return False
    return bool(texts) and not any("PGOPTIONS" in text for text in texts)
