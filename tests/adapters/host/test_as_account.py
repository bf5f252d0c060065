"""Reading with another account's rights: as root, in a child process that can neither hang us nor come back."""

from __future__ import annotations

import os
import pwd
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fleetd.adapters.host.as_account import ANSWER_BYTES_MAX, as_account
from fleetd.adapters.host.worker_account import (
    Account,
    AccountError,
    WorkersUnit,
    account_of,
    unit_of,
    workers_account,
)
from fleetd.adapters.mastodon.env_file import read_env_file

NOBODY = Account(name="nobody", uid=65534, gid=65534, groups=(65534,))
# The programs that read like this have no threads; the tests' workers do.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on another account")


def test_without_an_account_it_reads_itself() -> None:
    assert as_account(None, lambda: str(os.getpid()).encode()) == str(os.getpid()).encode()


@as_root
def test_the_rights_are_the_accounts_and_there_is_no_way_back(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o600)

    def read() -> bytes:
        found = [os.getresuid() == (65534,) * 3, os.getresgid() == (65534,) * 3, os.getgroups() == [65534]]
        for attempt in (lambda: os.setuid(0), lambda: os.setgid(0), (tmp_path / "secret").read_bytes):
            try:
                attempt()
            except PermissionError:
                found.append(True)
        return repr(found).encode()

    assert as_account(NOBODY, read) == b"[True, True, True, True, True, True]"
    assert os.geteuid() == 0


@as_root
def test_no_file_of_ours_is_open_in_the_child(tmp_path: Path) -> None:
    """Such as the lock of the settings: a link to /proc/self/fd/N would lead to it."""

    def inodes() -> bytes:
        found = []
        for number in range(1024):
            with suppress(OSError):
                found.append(os.fstat(number).st_ino)
        return repr(found).encode()

    with (tmp_path / "lock").open("w") as lock:
        ours = str(os.fstat(lock.fileno()).st_ino)
        assert ours in inodes().decode()
        assert ours not in as_account(NOBODY, inodes).decode()


@as_root
@pytest.mark.parametrize("stopped", [False, True])
def test_one_that_never_answers_is_ended(stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its user may stop it, too."""
    forked: list[int] = []
    fork = os.fork

    def noted() -> int:
        forked.append(fork())
        return forked[0]

    def read() -> bytes:
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        signal.pause()
        return b""

    monkeypatch.setattr("os.fork", noted)
    began = time.monotonic()
    with pytest.raises(AccountError, match=r"as user nobody took more than 0.2 s"):
        as_account(NOBODY, read, 0.2)
    assert time.monotonic() - began < 10
    with pytest.raises(ProcessLookupError):
        os.kill(forked[0], 0)


@as_root
def test_an_answer_without_end_is_cut_off() -> None:
    with pytest.raises(AccountError, match="its reader ended without an answer"):
        as_account(NOBODY, lambda: bytes(ANSWER_BYTES_MAX + 1))
    assert as_account(NOBODY, lambda: bytes(ANSWER_BYTES_MAX - 100)) == bytes(ANSWER_BYTES_MAX - 100)


@as_root
@pytest.mark.parametrize("written", [0, 1, 7, 1000])
def test_one_that_its_user_kills_in_the_middle_gave_no_answer(written: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def killed(number: int, data: bytes) -> int:
        write(number, data[:written])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    monkeypatch.setattr("os.write", killed)
    with pytest.raises(AccountError, match="as user nobody: its reader ended without an answer"):
        as_account(NOBODY, lambda: bytes(100_000))


@as_root
def test_a_bug_in_the_child_is_told_and_goes_no_further(capfd: pytest.CaptureFixture[str]) -> None:
    def read() -> bytes:
        raise ZeroDivisionError

    with pytest.raises(AccountError, match="could not be read as user nobody: its reader ended without an answer"):
        as_account(NOBODY, read)
    assert "ZeroDivisionError" in capfd.readouterr().err


@as_root
def test_rights_that_cannot_be_taken_on_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.setgroups", refuse)
    with pytest.raises(AccountError, match="its rights can't be taken on: Operation not permitted"):
        as_account(NOBODY, lambda: b"")


def test_the_workers_account_is_their_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getgrouplist", lambda name, gid: [gid, 7])
    shown = {"LoadState": "loaded", "User": "nobody", "Group": "", "SupplementaryGroups": ""}
    assert account_of(shown).name == "nobody"
    assert account_of(shown | {"User": "65534"}) == account_of(shown)
    more = account_of(shown | {"Group": "0", "SupplementaryGroups": "root 12"})
    assert (more.gid, more.groups) == (0, (0, 7, 12))
    assert account_of(shown | {"User": ""}).uid == 0, "to systemd no user is root"


def test_without_their_unit_it_is_mastodons_and_never_root(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name: pwd.getpwnam("nobody") for name in ("mastodon",)}
    monkeypatch.setattr("pwd.getpwnam", names.__getitem__)
    for properties in ({}, {"LoadState": "not-found", "User": ""}, {"LoadState": "masked"}):
        assert account_of(properties).uid == 65534
    names.clear()
    with pytest.raises(AccountError, match="user mastodon, as whom the workers run, does not exist"):
        account_of({})


@pytest.mark.parametrize("wrong", [{"User": "no-such-user"}, {"User": "root", "Group": "no-such-group"}])
def test_an_unknown_account_is_a_sentence(wrong: dict[str, str]) -> None:
    with pytest.raises(AccountError, match=r"no-such-.* does not exist here"):
        account_of({"LoadState": "loaded", **wrong})


def test_a_made_up_root_directory_is_read_with_our_own_rights(tmp_path: Path) -> None:
    assert workers_account(tmp_path) is None


def test_while_systemd_does_not_answer_root_reads_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DB_HOST=a\n")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("fleetd.adapters.host.worker_account._RUNS", tmp_path)
    monkeypatch.setattr("fleetd.adapters.host.worker_account.systemctl", lambda *_, **__: None)
    with pytest.raises(AccountError, match="systemd does not say as whom the workers run"):
        workers_account()
    read = read_env_file(f"{tmp_path}/.env")
    assert (read.text, read.why.startswith("systemd does not say"), read.missing) == (None, True, False)


def test_what_systemd_says_of_the_workers_unit() -> None:
    shown = (
        'LoadState=loaded\nUser=nobody\nGroup=\nSupplementaryGroups=\nEnvironment=A=1 "B=x y"\n'
        "EnvironmentFiles=/a.env (ignore_errors=no)\nEnvironmentFiles=/b.env (ignore_errors=yes)\n"
    )
    unit = unit_of(shown)
    assert (unit.user, unit.environment) == ("nobody", 'A=1 "B=x y"')
    assert unit.environment_files == ("/a.env (ignore_errors=no)", "/b.env (ignore_errors=yes)")
    assert (unit.account is not None) is (os.geteuid() == 0)


def test_a_unit_that_is_not_there_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert unit_of("LoadState=not-found\nEnvironment=A=1\n") == WorkersUnit()


@as_root
def test_the_units_groups_count_where_its_user_is_the_configured_one() -> None:
    shown = "LoadState=loaded\nUser=nobody\nSupplementaryGroups=adm\n"
    own, configured, another = unit_of(shown), unit_of(shown, "nobody"), unit_of(shown, "daemon")
    assert own.account == configured.account
    assert own.account is not None
    assert another.account is not None
    assert len(own.account.groups) == 2
    assert another.account.name == "daemon"
