"""The repository's own traps."""

import operator
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_operator_folder_never_shadows_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()
    assert operator.__file__ is not None
    assert Path(operator.__file__).is_relative_to(sysconfig.get_paths()["stdlib"])


def test_the_nix_folder_is_no_python_package() -> None:
    assert not (ROOT / "nix" / "__init__.py").exists()
