"""The man pages, made from the source: man_pages.py FOLDER config.example.toml

fleetctl(1) is made of click's help and fleetd.toml(5) of config.example.toml, so they can't differ from these.
fleetd(8) says what neither has.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from fleetd import __version__
from fleetd.cli.main import cli

_FLEETD_8 = """
.SH NAME
fleetd \\- runs as many Sidekiq processes for Mastodon as its queues need
.SH SYNOPSIS
.B fleetd
[\\fB\\-\\-config\\fR \\fIFILE\\fR]
.SH DESCRIPTION
fleetd reads how long jobs wait (Redis) and how many database connections are left (Postgres, PgBouncer), and starts or
drains \\fBmastodon\\-sidekiq@N.service\\fR over D\\-Bus. It is run by \\fBfleetd.service\\fR; workers are not its
children and run on without it.
.PP
Installing the package starts nothing. On a worker VM:
.PP
.nf
.RS 4
sudo fleetctl init                    # writes fleetd.toml from what runs now
sudoedit /etc/fleetd/fleetd.toml      # every key: fleetd.toml(5)
sudo fleetctl check\\-config
sudo fleetctl doctor                  # logs in to Redis and Postgres as fleetd will
sudo fleetctl migrate                 # from what runs Sidekiq now
.RE
.fi
.SH OPTIONS
.TP
\\fB\\-\\-config\\fR \\fIFILE\\fR
The configuration; by default /etc/fleetd/fleetd.toml.
.TP
\\fB\\-\\-version\\fR, \\fB\\-\\-help\\fR
Say which version this is, or how it is called.
.SH SIGNALS
.TP
SIGHUP
Read the configuration again. \\fBsystemctl reload fleetd\\fR also renders the workers' settings first.
.TP
SIGTERM
Stop. No worker stops with it.
.SH EXIT STATUS
78 if the configuration has errors, which are logged: systemd then does not start it again. 1 for other errors.
.SH REMOVING THE PACKAGE
Neither removing nor purging it stops a worker. While workers run, or a boot starts them, their units stay as copies in
/etc/systemd/system, and the settings they start with in /var/lib/mastodon\\-sidekiq. To go back to the units of before:
.PP
.nf
.RS 4
sudo fleetctl migrate \\-\\-undo
sudo apt\\-get purge fleetd
.RE
.fi
.SH FILES
.TP
/etc/fleetd/fleetd.toml
the configuration, see \\fBfleetd.toml\\fR(5)
.TP
/var/lib/mastodon\\-sidekiq
what workers start with, and what a boot starts; written by fleetd\\-render.service as root
.TP
/var/lib/fleetd
fleetd's own state, and history.sqlite
.SH SEE ALSO
.BR fleetctl (1),
.BR fleetd.toml (5),
.BR systemctl (1).
/usr/share/doc/fleetd/operations.md says what to do when something is wrong.
"""
_TOP = click.Context(cli, info_name="fleetctl", **cli.context_settings)
_KEY = re.compile(r"#?([a-z_]+) = (.+)")
_HEADING = re.compile(r"# -+ (.+?) -+")
#: `"auto"   what it means`: one of a key's values.
_CHOICE = re.compile(r'"[a-z-]+" {2,}')
_TABLE = re.compile(r"\[[a-z.-]+\]")


def escaped(text: str) -> str:
    """Text as roff shows it."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def header(name: str, section: int) -> str:
    """The first lines of a page."""
    at = time.gmtime(int(os.environ.get("SOURCE_DATE_EPOCH", "0")))
    return f'.TH {name} {section} "{time.strftime("%Y-%m-%d", at)}" "fleetd {__version__}" "fleetd"\n.ad l\n.nh\n'


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of a help text; those after \\b, and lines that are set in, stay as they are."""
    for part in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        kept = part.startswith("\b")
        lines = part.removeprefix("\b").strip("\n").splitlines()
        if kept or any(line.startswith("  ") for line in lines):
            yield ".PP\n.nf\n" + "\n".join(map(escaped, lines)) + "\n.fi\n"
        else:
            yield ".PP\n" + escaped("\n".join(lines)) + "\n"


def fleetctl_1() -> str:
    """The page of fleetctl."""
    text = header("FLEETCTL", 1) + ".SH NAME\nfleetctl \\- see and steer what fleetd does with Sidekiq\n"
    text += ".SH SYNOPSIS\n.B fleetctl\n\\fICOMMAND\\fR [\\fIOPTION\\fR ...] [\\fIARGUMENT\\fR ...]\n.SH DESCRIPTION\n"
    text += "".join(paragraphs(cli.help or "")) + "".join(_options(cli, _TOP))
    text += ".SH COMMANDS\n"
    for name, command in sorted(cli.commands.items()):
        text += _command(name, command)
    text += ".SH EXAMPLES\n" + "".join(paragraphs(cli.epilog or ""))
    return text + ".SH SEE ALSO\n.BR fleetd (8),\n.BR fleetd.toml (5),\n.BR systemctl (1)\n"


def _command(name: str, command: click.Command, parent: click.Context = _TOP) -> str:
    context = click.Context(command, parent=parent, info_name=name)
    usage = " ".join(command.collect_usage_pieces(context))
    text = f".SS {escaped(name)} {escaped(usage)}\n" + "".join(paragraphs(command.help or ""))
    text += "".join(_options(command, context)) + "".join(paragraphs(command.epilog or ""))
    if isinstance(command, click.Group):
        for below, sub in sorted(command.commands.items()):
            text += _command(f"{name} {below}", sub, context)
    return text


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            yield f".TP\n\\fB{escaped(record[0])}\\fR\n{escaped(record[1])}\n"


def fleetd_toml_5(example: str) -> str:
    """The page of the configuration."""
    text = header("FLEETD.TOML", 5) + ".SH NAME\nfleetd.toml \\- configuration of fleetd\n"
    text += ".SH SYNOPSIS\n/etc/fleetd/fleetd.toml\n.SH DESCRIPTION\n"
    lines = iter(example.splitlines()[2:])  # without its own title
    said: list[str] = []
    for line in lines:
        heading, key = _HEADING.fullmatch(line), _KEY.fullmatch(line)
        if heading or key or _TABLE.fullmatch(line) or line.startswith("#["):
            about, said = _comment(said), []
            if heading:
                text += about + f".SH {escaped(heading[1]).upper()}\n"
            elif key:
                about = about.removeprefix(".PP\n") or "As above.\n"
                text += f".TP\n\\fB{escaped(key[1])}\\fR = {escaped(key[2])}\n{about}"
            elif line.startswith("#["):
                text += about + _example(line, lines)
            else:
                text += f".SS {escaped(line)}\n{about}"
        elif line:
            said.append(line.removeprefix("#").removeprefix(" "))
        else:
            text += _comment(said)
            said = []
    return text + _comment(said) + ".SH SEE ALSO\n.BR fleetd (8),\n.BR fleetctl (1)\n"


def _example(first: str, lines: Iterator[str]) -> str:
    """Tables that are commented out as a whole, up to the next blank line."""
    shown = [first.removeprefix("#")]
    for line in lines:
        if not line:
            break
        shown.append(line if line.startswith("# ") else line.removeprefix("#"))
    return ".PP\n.nf\n.RS 4\n" + "\n".join(map(escaped, shown)) + "\n.RE\n.fi\n"


def _comment(lines: list[str]) -> str:
    text, kept = "", False
    for line in lines:
        as_is = line.startswith("  ") or _CHOICE.match(line) is not None
        if as_is != kept:
            text += ".nf\n" if as_is else ".fi\n"
        kept = as_is
        text += escaped(line) + "\n" if line else ".PP\n"
    text += ".fi\n" if kept else ""
    return f".PP\n{text}" if text else ""


def pages(example: str) -> dict[str, str]:
    """Each page by its path below /usr/share/man."""
    return {
        "man1/fleetctl.1": fleetctl_1(),
        "man5/fleetd.toml.5": fleetd_toml_5(example),
        "man8/fleetd.8": header("FLEETD", 8) + _FLEETD_8.lstrip(),
    }


def main() -> None:
    """Write them."""
    for path, text in pages(Path(sys.argv[2]).read_text(encoding="utf-8")).items():
        target = Path(sys.argv[1]) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
