"""Store paths as packages with versions, as Nix reads their names. Pure."""

import re
from dataclasses import dataclass
from typing import Final

from niximage.image.closure import store_path_name

# The name ends before the first dash that is followed by something else than a letter.
_NAME: Final = re.compile(r"(?P<name>.+?)-(?P<version>[^A-Za-z].*)")
_OUTPUT: Final = re.compile(
    r"(?P<version>.*?)-(?P<output>bin|data|debug|dev|devdoc|dist|doc|env|info|lib|libgcc|man|out|py"
    r"|static|terminfo|locale|getent)"
)


@dataclass(frozen=True, order=True, slots=True)
class PackageName:
    """What a store path is called.

    Attributes:
        name: with its output in brackets, if it says one: `openssl (bin)`.
        version: "" where it has none.
    """

    name: str
    version: str


def package_name(path: str) -> PackageName:
    """The name and version of a store path."""
    full = store_path_name(path)
    found = _NAME.fullmatch(full)
    name, version = found.groups() if found else (full, "")
    if output := _OUTPUT.fullmatch(version):
        name, version = f"{name} ({output['output']})", output["version"]
    return PackageName(name, version)
