"""Store paths as packages with versions, as Nix reads their names. Pure."""

import re
from dataclasses import dataclass
from typing import Final

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
        name: of the package.
        version: "" where it has none.
        output: which of its outputs it is; "" where it does not say.
    """

    name: str
    version: str = ""
    output: str = ""

    @classmethod
    def of(cls, name: str) -> "PackageName":
        """What a store path's name, without its hash, says."""
        found = _NAME.fullmatch(name)
        if found is None:
            return cls(name)
        package, version = found.groups()
        if output := _OUTPUT.fullmatch(version):
            return cls(package, output["version"], output["output"])
        return cls(package, version)

    def __str__(self) -> str:
        """It without its version: `openssl (bin)`."""
        return f"{self.name} ({self.output})" if self.output else self.name
