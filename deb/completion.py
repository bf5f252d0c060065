"""Completion of fleetctl for bash, zsh and fish, made by click: completion.py STAGE

Commands and options are known to the script; names of profiles and instances are fleetctl's to say, which asks fleetd
for them (cli/commands/arguments.py). click's scripts let it print errors between what a person types, and wait for it
for as long as it takes: these do neither.
"""

from __future__ import annotations

import sys
from pathlib import Path

from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from fleetd.cli.main import cli

#: fleetctl itself waits for a second (COMPLETION_SECONDS_MAX); this is for a host on which Python takes long to start.
_SECONDS_MAX = 3
_SHELLS: dict[str, tuple[type[ShellComplete], str]] = {
    "usr/share/bash-completion/completions/fleetctl": (BashComplete, "bash_complete $1)"),
    "usr/share/zsh/vendor-completions/_fleetctl": (ZshComplete, "zsh_complete fleetctl)"),
    "usr/share/fish/vendor_completions.d/fleetctl.fish": (FishComplete, "(commandline -t) fleetctl)"),
}


def scripts() -> dict[str, str]:
    """Each script by its path below /."""
    return {path: _script(shell, call) for path, (shell, call) in _SHELLS.items()}


def _script(shell: type[ShellComplete], call: str) -> str:
    # Not BashComplete's own source(): that asks the bash of this machine for its version.
    text = ShellComplete.source(shell(cli, {}, "fleetctl", "_FLEETCTL_COMPLETE"))
    if text.count(call) != 1:
        raise SystemExit(f"completion.py: click's script has no {call!r} any more: say anew where to add the deadline")
    before, program = call.removesuffix(")").rsplit(" ", 1)
    return text.replace(call, f"{before} timeout {_SECONDS_MAX} {program} 2> /dev/null)").lstrip()


def main() -> None:
    """Write them."""
    for path, text in scripts().items():
        target = Path(sys.argv[1]) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


if __name__ == "__main__":
    main()
