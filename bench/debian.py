"""Debian's package indexes as dependency graphs: real packages, sizes, sources and updates.

The machine's own apt sources say where Debian is found; suites that the machine does not
follow are read from the same place, into a private apt root in the user's cache, so that the
system's package lists stay as they are. What a graph needs of an index is kept beside it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import zstandard

SUITES: Final = ("bookworm", "bookworm-updates", "bookworm-security", "trixie", "forky", "sid")
SECURITY: Final = "-security"

_ARCHITECTURE: Final = "amd64"
_TARGETS: Final = "$(RELEASE) $(REPO_URI)"
_KEYRING: Final = "/usr/share/keyrings/debian-archive-keyring.gpg"
_TIMEOUT: Final = 300  # seconds for the download of 50 MB of indexes
_FORMAT: Final = 1  # of what is kept: raised when it would read otherwise


@dataclass(frozen=True, slots=True)
class Package:
    """A binary package of an index.

    Attributes:
        name: its name.
        version: its version.
        source: the source package that it is built from, which updates come by.
        size: bytes when installed.
        needs: for each dependency the names that satisfy it, in the order of preference.
        provides: other names that it satisfies.
    """

    name: str
    version: str
    source: str
    size: int
    needs: tuple[tuple[str, ...], ...]
    provides: tuple[str, ...]


class Suite:
    """The packages of a suite: what a dependency's name stands for."""

    def __init__(self, packages: Mapping[str, Package]) -> None:
        self.packages = packages
        self._providers: dict[str, str] = {}
        for name in sorted(packages):
            for provided in packages[name].provides:
                self._providers.setdefault(provided, name)

    def dependencies(self, package: Package) -> list[str]:
        """The packages that a package needs: of each choice the first that there is."""
        found = (self._choose(names) for names in package.needs)
        return sorted({name for name in found if name is not None})

    def _choose(self, names: tuple[str, ...]) -> str | None:
        for name in names:
            if name in self.packages:
                return name
        return next((self._providers[name] for name in names if name in self._providers), None)


def load_suites(*names: str) -> list[Suite]:
    """Some of `SUITES`; all are downloaded at the first call on a machine.

    Raises:
        RuntimeError: this is no Debian machine, or apt cannot reach what its sources name.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "niximage" / "bench"
    kept = {suite: folder / f"{suite}-{_FORMAT}.json.zst" for suite in SUITES}
    if not all(path.is_file() for path in kept.values()):
        _update(folder)
        for suite, path in kept.items():
            _keep(path, list(_parse(_index(folder, suite))))
    return [Suite(_read(kept[name])) for name in names]


def _update(folder: Path) -> None:
    """Download the indexes of all suites into a private apt root."""
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", _TARGETS, "Identifier: Packages"],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    ).stdout.split("\n")
    where = dict(line.split(" ", 1) for line in listed if " " in line)
    plain = next((uri for suite, uri in where.items() if "-" not in suite and "debian" in uri), "")
    security = next((uri for suite, uri in where.items() if suite.endswith(SECURITY)), "")
    if not plain or not security:
        raise RuntimeError("apt names no Debian here: run `apt-get update` on a Debian machine")
    sources = folder / "debian.sources"
    sources.write_text(
        "\n".join(
            f"Types: deb\nURIs: {security if suite.endswith(SECURITY) else plain}\n"
            f"Suites: {suite}\nComponents: main\nSigned-By: {_KEYRING}\n"
            for suite in SUITES
        )
    )
    print("reading Debian's indexes, once: 50 MB", file=sys.stderr)
    update = ["apt-get", *_options(folder), "update", "--quiet=2"]
    subprocess.run(update, timeout=_TIMEOUT, check=True)


def _options(folder: Path) -> list[str]:
    """What makes apt use the private root, and fetch nothing but the lists of packages."""
    settings = {
        "Dir::Etc::sourcelist": folder / "debian.sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder,
        "APT::Architectures": _ARCHITECTURE,
        "APT::Sandbox::User": "root",
        "APT::Update::Post-Invoke::": "true",
        "Acquire::Languages": "none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
    }
    return [option for key, value in settings.items() for option in ("-o", f"{key}={value}")]


def _index(folder: Path, suite: str) -> str:
    """The text of a suite's index, whatever it is compressed with."""
    [path] = (folder / "lists").glob(f"*_{suite}_main_binary-{_ARCHITECTURE}_Packages*")
    return subprocess.run(
        ["/usr/lib/apt/apt-helper", "cat-file", str(path)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=True,
    ).stdout


_FIELD: Final = re.compile(
    r"^(Package|Version|Source|Installed-Size|Depends|Pre-Depends|Provides): (.*)$", re.MULTILINE
)
_NAME: Final = re.compile(r"(?:^|\|)\s*([a-z0-9][a-z0-9+.-]*)")


def _parse(index: str) -> Iterator[Package]:
    for stanza in index.split("\n\n"):
        fields: dict[str, str] = dict(_FIELD.findall(stanza))
        if "Package" not in fields:
            continue
        needs = _choices(fields.get("Pre-Depends", "")) + _choices(fields.get("Depends", ""))
        provides = _choices(fields.get("Provides", ""))
        yield Package(
            name=fields["Package"],
            version=fields["Version"],
            source=fields.get("Source", fields["Package"]).split()[0],
            size=int(fields.get("Installed-Size", "0")) << 10,
            needs=tuple(dict.fromkeys(needs)),
            provides=tuple(name for names in provides for name in names),
        )


def _choices(field: str) -> list[tuple[str, ...]]:
    """`a (>= 1), b | c:any` as [(a,), (b, c)]."""
    return [tuple(_NAME.findall(item)) for item in field.split(",") if item.strip()]


def _keep(path: Path, packages: list[Package]) -> None:
    """Write what was parsed; the last version listed of a name is the one that counts."""
    rows = {
        p.name: [p.version, p.source, p.size, ["|".join(n) for n in p.needs], list(p.provides)]
        for p in packages
    }
    data = json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()
    temporary = path.with_suffix(".new")
    temporary.write_bytes(zstandard.compress(data))
    temporary.replace(path)


def _read(path: Path) -> dict[str, Package]:
    with path.open("rb") as file:
        rows = json.loads(zstandard.ZstdDecompressor().stream_reader(file).read())
    return {
        name: Package(
            name=name,
            version=version,
            source=source,
            size=size,
            needs=tuple(tuple(need.split("|")) for need in needs),
            provides=tuple(provides),
        )
        for name, (version, source, size, needs, provides) in rows.items()
    }
