"""Whether the command that starts Sidekiq is there, and if not, which one is: rbenv is only one way to install Ruby."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from fleetd.adapters.host.as_account import as_account
from fleetd.adapters.host.systemctl import systemctl
from fleetd.adapters.host.worker_account import Account
from fleetd.core.model.facts import Value

#: Where Ruby's `bundle` is: rbenv, asdf, mise, rvm, chruby, ruby-build and Docker's image, Debian.
_BUNDLES = (
    "{home}/.rbenv/shims/bundle",
    "{home}/.asdf/shims/bundle",
    "{home}/.local/share/mise/shims/bundle",
    "{home}/.rvm/wrappers/default/bundle",
    "{home}/.rubies/*/bin/bundle",
    "/usr/local/rbenv/shims/bundle",
    "/opt/rbenv/shims/bundle",
    "/opt/asdf/shims/bundle",
    "/opt/rubies/*/bin/bundle",
    "/opt/ruby/bin/bundle",
    "/usr/local/bin/bundle",
    "/usr/bin/bundle",
)
_EXEC_START = re.compile(r"\{ path=(/[^;]*?) ;")
_NAMED_MAX = 3


class WorkerCommand(Value, frozen=True, kw_only=True):
    """`path`: the program of ExecStart. `others`: commands that are there instead, as mastodon.exec would say them."""

    path: str
    runs: bool  # it exists, and the workers' user may run it
    others: tuple[str, ...] = ()
    directory: bool = True  # Mastodon's directory exists

    def problem(self, user: str, directory: str) -> str:
        """What is wrong and what to do, as sentences; "": nothing is."""
        cures = []
        if not self.runs:
            there = f"There is {' and '.join(f'`{one}`' for one in self.others[:_NAMED_MAX])}. " if self.others else ""
            first = self.others[0] if self.others else "/usr/local/bin/bundle exec sidekiq"
            cures.append(
                f"No worker can start: their command is {self.path}, which does not exist or which user {user} may not "
                f'run. {there}Set mastodon.exec, for instance to "{first}", then `systemctl reload fleetd`.'
            )
        if not self.directory:
            cures.append(
                f"No worker can start: {directory} is no directory that user {user} can enter. Set mastodon.directory "
                "to where Mastodon's code is, then `systemctl reload fleetd`."
            )
        return " ".join(cures)


def exec_start_of_unit() -> str | None:
    """The program that systemd would run for a worker, with all drop-ins; None: it does not say."""
    shown = systemctl("show", "--property=ExecStart", "mastodon-sidekiq@0.service")
    found = _EXEC_START.search(shown or "")
    return found[1] if found else None


def look_for_command(
    path: str, home: str, directory: str, account: Account | None, root: Path = Path("/")
) -> WorkerCommand:
    """With the rights of `account`. Raises AccountError when they can't be taken on. `root`: another root directory."""
    answer = as_account(account, lambda: msgspec.json.encode(_look(path, home, directory, root)))
    return msgspec.json.decode(answer, type=WorkerCommand)


def _look(path: str, home: str, directory: str, root: Path) -> WorkerCommand:
    if _runs(path, root):
        return WorkerCommand(path=path, runs=True, directory=_is(_below(root, directory).is_dir))
    patterns = [pattern.format(home=glob.escape(home)).lstrip("/") for pattern in _BUNDLES]
    found = [path for pattern in patterns for path in sorted(root.glob(pattern), reverse=True)]
    bundles = [f"/{path.relative_to(root)}" for path in dict.fromkeys(found) if os.access(path, os.X_OK)]
    others = [f"{name} exec sidekiq" for name in bundles]
    if _runs(f"{directory}/bin/sidekiq", root):  # a binstub needs no bundle
        others.append(f"{directory}/bin/sidekiq")
    return WorkerCommand(path=path, runs=False, others=tuple(others), directory=_is(_below(root, directory).is_dir))


def _runs(path: str, root: Path) -> bool:
    return _is(_below(root, path).is_file) and os.access(_below(root, path), os.X_OK)


def _is(question: Callable[[], bool]) -> bool:
    """No, where a directory above may not be entered."""
    try:
        return question()
    except OSError:
        return False


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")
