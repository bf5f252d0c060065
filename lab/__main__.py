"""Looks around in running labs, and ends them. See `python -m lab --help`."""

import argparse
import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from lab.errors import LabError
from lab.hosts import holder, namespaces
from lab.setup import packages


def labs() -> dict[str, dict[str, Any]]:
    """The labs that are alive and have booted, by name."""
    found = {}
    for path in sorted(holder.STATE.glob("*/lab.json")):
        held = holder.lock(path.parent.name)
        if held is None:  # its holder has the lock, so it is alive
            found[path.parent.name] = json.loads(path.read_text())
        else:
            held.close()
    return found


def find_host(name: str, lab: str | None) -> dict[str, Any]:
    """The state of a host in the only lab that has a host of this name."""
    known = labs()
    found = {at: state["hosts"][name] for at, state in known.items() if name in state["hosts"] and lab in (None, at)}
    if len(found) > 1:
        raise LabError(f"Several labs have a host {name!r}: name one with --lab, before any `--`: {', '.join(found)}")
    if not found:
        hosts = sorted({host for state in known.values() for host in state["hosts"]})
        raise LabError(f"No host {name!r} runs. Hosts that run: {', '.join(hosts) or 'none'}.")
    return next(iter(found.values()))


def enter(name: str, lab: str | None, command: list[str]) -> None:
    """Replace this process with a command in a host, by default a shell."""
    pid = find_host(name, lab)["pid"]
    kept = [f"{key}={os.environ[key]}" for key in ("TERM", "COLORTERM") if key in os.environ]
    program = command or ["bash", "-l"]
    arguments = [*namespaces.enter(pid), "HOME=/root", *kept, *program]
    os.execvp(arguments[0], arguments)  # noqa: S606 - no shell wanted


def down(names: list[str]) -> None:
    """End labs, by default those that were kept, and sweep up after dead ones."""
    known = labs()
    for name in names or [name for name, state in known.items() if state["kept"]]:
        if name not in known:
            raise LabError(f"No lab {name!r} runs. Labs that run: {', '.join(known) or 'none'}.")
        os.kill(known[name]["holder"], signal.SIGTERM)
        deadline = time.monotonic() + 30
        while (holder.STATE / name).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        print(f"{name} is down.")
    holder.sweep()


def show() -> None:
    """List what runs."""
    for name, state in labs().items():
        print(name)
        for host, facts in state["hosts"].items():
            print(f"  {host:<12} {facts['address']:<12} sudo {Path(sys.executable)} -m lab enter {host} --lab {name}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab", description="Virtual hosts with a real systemd each.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="labs and hosts that run")
    into = verbs.add_parser("enter", help="a shell in a host, or `-- COMMAND`")
    into.add_argument("host")
    into.add_argument("--lab", help="which lab, if several have such a host")
    end = verbs.add_parser("down", help="end labs that were kept, and what dead ones left")
    end.add_argument("lab", nargs="*", help="by default all that were kept; name one that is in use")
    verbs.add_parser("packages", help="install the Debian packages that the lab needs")
    # Split by hand: argparse loses a `--` that comes after an option.
    own = list(itertools.takewhile(lambda word: word != "--", sys.argv[1:]))
    command = sys.argv[2 + len(own) :]
    arguments = parser.parse_args(own)
    if arguments.verb != "list" and os.geteuid() != 0:
        sys.exit(f"This needs root: sudo {sys.executable} -m lab {' '.join(sys.argv[1:])}")
    try:
        if arguments.verb == "enter":
            enter(arguments.host, arguments.lab, command)
        elif arguments.verb == "down":
            down(arguments.lab)
        elif arguments.verb == "packages":
            packages.install(print)
            print("Everything the lab needs is installed.")
        else:
            show()
    except LabError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
