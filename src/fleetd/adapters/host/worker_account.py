"""As whom Mastodon's workers run. Root reads Mastodon's files with the rights of that account (as_account.py)."""

from __future__ import annotations

import grp
import os
import pwd
import re
from pathlib import Path

from msgspec import structs

from fleetd.adapters.host.systemctl import systemctl
from fleetd.core.model.facts import Value
from fleetd.errors import FleetdError

#: An instance that never runs, so a drop-in for a single instance does not count.
_ASKED = "mastodon-sidekiq@0.service"
TEMPLATE = "mastodon-sidekiq@.service"
_USUAL = "mastodon"
_PROPERTIES = ("LoadState", "User", "Group", "SupplementaryGroups", "Environment", "EnvironmentFiles")
_ASK_SECONDS = 10.0
_RUNS = Path("/run/systemd/system")


class AccountError(FleetdError):
    """It is not known as whom the workers run, or their rights can't be taken on."""


class Account(Value, frozen=True, kw_only=True):
    """A user with its groups, as systemd gives them to the workers."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]  # supplementary ones

    @property
    def group(self) -> str:
        """The name of its first group."""
        try:
            return grp.getgrgid(self.gid).gr_name
        except KeyError:
            return str(self.gid)


class WorkersUnit(Value, frozen=True, kw_only=True):
    """What systemd says of the workers' unit with its drop-ins, as `systemctl show` prints it."""

    account: Account | None = None  # None: what we read we read with our own rights
    user: str = ""  # the account's name; "": it is not known
    environment: str = ""  # Environment=
    environment_files: tuple[str, ...] = ()  # "PATH (ignore_errors=no)"
    comments_continue: bool = True  # in those files, after a backslash at the end: before systemd 254


def workers_account(root: Path = Path("/")) -> Account | None:
    """The account that the workers' unit names; "mastodon" where systemd or the unit is missing.

    None: we are not root, or `root` is a made-up directory, so what we read we read with our own rights. Raises
    AccountError, never None, when root can't find out: then nothing of Mastodon's is read.
    """
    return workers_unit(root).account


def workers_unit(root: Path = Path("/"), user: str | None = None) -> WorkersUnit:
    """The workers' unit; of a made-up `root`, nothing. Raises AccountError as workers_account does.

    `user`: as whom workers will run once that is rendered; None: as whom the unit says.
    """
    if root != Path("/"):
        return WorkersUnit()
    shown: str | None = ""
    if _RUNS.is_dir():
        shown = systemctl("show", f"--property={','.join(_PROPERTIES)}", _ASKED, seconds=_ASK_SECONDS)
    if shown is None:
        if os.geteuid() != 0:
            return WorkersUnit()
        raise AccountError(f"systemd does not say as whom the workers run: try `systemctl show {_ASKED}`")
    version = re.match(r"systemd (\d{1,6})", systemctl("--version", seconds=_ASK_SECONDS) or "")
    return structs.replace(unit_of(shown, user), comments_continue=version is None or int(version[1]) < 254)


def unit_of(shown: str, user: str | None = None) -> WorkersUnit:
    """From what `systemctl show` printed. Raises AccountError for an unknown user or group, if we are root."""
    lines = [(name, value) for name, _, value in (line.partition("=") for line in shown.splitlines())]
    properties = dict(lines)
    says_so = user is None or (properties.get("LoadState") == "loaded" and properties.get("User") == user)
    meant = properties if says_so else {"LoadState": "loaded", "User": user or ""}
    account = account_of(meant) if os.geteuid() == 0 else None
    if properties.get("LoadState") != "loaded":
        return WorkersUnit(account=account, user=account.name if account else "")
    return WorkersUnit(
        account=account,
        user=account.name if account else properties.get("User", ""),
        environment=properties.get("Environment", ""),
        environment_files=tuple(value for name, value in lines if name == "EnvironmentFiles" and value),
    )


def account_of(properties: dict[str, str]) -> Account:
    """From a unit's properties as `systemctl show` prints them. Raises AccountError for an unknown user or group."""
    if properties.get("LoadState") == "loaded":
        user = properties.get("User") or "root"  # no User= means root
        first, more = properties.get("Group", ""), properties.get("SupplementaryGroups", "").split()
    else:
        user, first, more = _USUAL, "", []
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise AccountError(
            f"the user {user}, as whom the workers run, does not exist here: set mastodon.user in fleetd.toml, then "
            "`systemctl restart fleetd-render`"
        ) from None
    gid = _gid(first) if first else entry.pw_gid
    groups = {*os.getgrouplist(entry.pw_name, gid), *map(_gid, more)}
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=gid, groups=tuple(sorted(groups)))


def _gid(group: str) -> int:
    if group.isdecimal():
        return int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise AccountError(f"the group {group} of {TEMPLATE} does not exist here") from None
