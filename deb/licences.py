"""debian/copyright of the package: fleetd's licence, and those of everything that is bundled: licences.py SITE PATH

SITE is the environment's site-packages, PATH where the package puts it. Each Python package says in its metadata what
its licence is and brings the text. The C libraries inside psycopg-binary's wheel say nothing: libraries.copyright does.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

_HERE = Path(__file__).resolve().parent
#: Where a distribution's metadata is less exact than its licence text.
_NAMES = {
    "Apache 2": "Apache-2.0",
    "MIT License": "MIT",
    "License :: OSI Approved :: MIT License": "MIT",
}
#: Debian has the long text of this one already, and wants to be pointed to it.
_COMMON = "On Debian systems the text of the Apache License 2.0 is in /usr/share/common-licenses/Apache-2.0."
_TEXT = re.compile(r"(?:^|/)(?:LICEN[CS]E|COPYING|NOTICE)[^/]*$", re.IGNORECASE)
_HOLDER = re.compile(r"^\W*((?:Portions )?(?:Copyright|\(c\)|©).*[0-9A-Za-z].*)$", re.IGNORECASE | re.MULTILINE)


def folders(site: Path) -> list[Path]:
    """The metadata directories of what is bundled."""
    return sorted(site.glob("*.dist-info"), key=lambda path: path.name.lower())


def said(found: Distribution, *fields: str) -> str:
    """The first of these fields that a distribution's metadata has, or ""."""
    return next((value for field in fields for value in found.metadata.get_all(field) or () if value), "")


def licence_of(found: Distribution) -> str:
    """The licence by its short name. Raises SystemExit if its metadata names none."""
    classifiers = [c for c in found.metadata.get_all("Classifier") or () if c.startswith("License ::")]
    name = said(found, "License-Expression", "License") or (classifiers[0] if classifiers else "")
    if not name or "\n" in name:
        raise SystemExit(f"licences.py: the metadata of {found.metadata['Name']} names no licence")
    return _NAMES.get(name, name)


def texts_of(folder: Path) -> list[str]:
    """The texts that come with a distribution. Raises SystemExit if there is none."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _TEXT.search(path.name)]
    if not files:
        raise SystemExit(f"licences.py: {folder.name} comes without the text of its licence")
    texts = [path.read_text(encoding="utf-8").replace("\f", "") for path in files]
    return [_COMMON if "Apache License" in text and "TERMS AND CONDITIONS" in text else text for text in texts]


def stanza(found: Distribution, folder: Path, where: str) -> str:
    """What is said of one distribution."""
    name, texts = found.metadata["Name"], texts_of(folder)
    holders = sorted({match.strip() for text in texts for match in _HOLDER.findall(text[:3000])})
    by = said(found, "Author", "Author-email", "Maintainer-email")
    modules = " ".join(f"{where}/{module}" for module in modules_of(folder))
    lines = [f"Files: {modules}", f"Copyright: {(holders or [f'the authors of {name}: {by}'])[0]}"]
    lines += [f" {holder}" for holder in holders[1:]]
    text = "\n .\n".join(_field(text) for text in texts)
    return "\n".join(lines) + f"\nLicense: {name}: {licence_of(found)}\n{text}\n"


def modules_of(folder: Path) -> list[str]:
    """The packages and modules of a distribution, as its wheel's name for them says."""
    name, site = folder.name.partition("-")[0], folder.parent
    own = [f"{name}/*"] if (site / name).is_dir() else []
    return [*own, *(path.name for path in sorted(site.glob(f"{name}.py"))), *_OTHERS.get(name, ()), f"{folder.name}/*"]


#: Distributions whose package has another name.
_OTHERS = {"markdown_it_py": ("markdown_it/*",)}


def libraries(site: Path) -> list[str]:
    """The C libraries that wheels bring along, by their file names."""
    return sorted(path.name for path in site.glob("*.libs/*"))


def of_the_libraries(site: Path, where: str) -> str:
    """What is said of them. Raises SystemExit for one that libraries.copyright does not have."""
    text = (_HERE / "libraries.copyright").read_text(encoding="utf-8").replace("@WHERE@", where)
    known = set(re.findall(r"\.libs/([a-z0-9_]+)-", text))
    unknown = [name for name in libraries(site) if name.partition("-")[0] not in known]
    if unknown:
        raise SystemExit(f"licences.py: deb/libraries.copyright does not say whose these are: {' '.join(unknown)}")
    return text


def _field(text: str) -> str:
    return "\n".join(f" {line.rstrip()}" if line.strip() else " ." for line in text.strip("\n").splitlines())


def copyright_file(site: Path, where: str) -> str:
    """The whole file."""
    found = {Path(str(d._path)).name: d for d in distributions(path=[str(site)])}  # type: ignore[attr-defined] # noqa: SLF001
    own = next(folder for folder in folders(site) if folder.name.startswith("fleetd-"))
    parts = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
        "Upstream-Name: fleetd\n"
        "Comment: fleetd, and the Python packages it runs with: the wheels that requirements.lock names by hash.\n",
        f"Files: *\nCopyright: the authors of fleetd\nLicense: AGPL-3+\n{_field(texts_of(own)[0])}\n",
        *(stanza(found[folder.name], folder, where) for folder in folders(site) if folder != own),
        of_the_libraries(site, where),
    ]
    return "\n".join(parts)


def main() -> None:
    """Print it."""
    print(copyright_file(Path(sys.argv[1]), sys.argv[2]), end="")


if __name__ == "__main__":
    main()
