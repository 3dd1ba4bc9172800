"""Every way in which a package cannot be evaluated, and the words that users read of it.

Where the words are Nix' own they are given as Nix 2.8 and as Nix 2.26 put them.
"""

import re
import shutil
from pathlib import Path

import pytest

from integration.nix.demo import SYSTEM
from niximage.errors import Reason, Terminal
from niximage.nix.evaluate import evaluate
from niximage.nix.programs import NixStore

NOT_THERE, FAILED = Reason.PACKAGE_NOT_FOUND, Reason.EVALUATION_FAILED
AT = "at source/default.nix"  # line and column are left out
IFD = (
    "its evaluation needs generated to be built first (import from derivation), and evaluating "
    "builds nothing: keep what that makes in the source"
)

CHANNEL = (
    "<nixpkgs> is looked for, and there is no search path here: take it from the source, "
    "or fetch it by its hash"
)

TROUBLES: dict[str, tuple[Reason, str, *tuple[str, ...]]] = {
    "fien": (NOT_THERE, "there is no 'fien'; near names: fine"),
    "xyzzy": (NOT_THERE, "there is no 'xyzzy'"),
    "nixpkgs.fine": (NOT_THERE, "there is no 'nixpkgs'; near names: fine"),
    "sets.tools.uper": (NOT_THERE, "there is no 'uper'; near names: sets.tools.upper"),
    "sets.tolls.upper": (NOT_THERE, "there is no 'tolls'; near names: sets.tools"),
    "sets.tools.lowr^out": (NOT_THERE, "there is no 'lowr'; near names: sets.tools.lower"),
    "text.more": (NOT_THERE, "there is no 'more'"),
    "sets": (NOT_THERE, "it is no package but a set; name one of the packages in it: sets.…"),
    "function": (
        NOT_THERE,
        "it is no package but a function, which makes one: call it in a package set of your own",
    ),
    "list": (NOT_THERE, "it is no package but a list"),
    "nothing": (NOT_THERE, "it is no package but null"),
    "number": (NOT_THERE, "it is no package but a number"),
    "switch": (NOT_THERE, "it is no package but true or false"),
    "text": (NOT_THERE, "it is no package but a string"),
    "fine^dev": (NOT_THERE, "it has no output dev, only out"),
    "other-output": (NOT_THERE, "it has no output bin, only out"),
    "no-outputs": (FAILED, "its derivation or outputs are malformed"),
    "thrown": (FAILED, "'thrown' was renamed to 'fine'"),
    "thrown-late": (FAILED, "no longer built"),
    "asserted": (
        FAILED,
        f"""assertion '(system == "none")' failed {AT}""",
        """string '"x86_64-linux"' is not equal to string '"none"'""",
    ),
    "aborted": (FAILED, "evaluation aborted with the following error message: 'stop here'"),
    "recursive": (FAILED, f"infinite recursion encountered {AT}"),
    "bottomless": (
        FAILED,
        "stack overflow (possible infinite recursion)",
        f"stack overflow; max-call-depth exceeded {AT}",
    ),
    "lacking-argument": (
        FAILED,
        f"anonymous function {AT} called without required argument 'needed' {AT}",
        f"function 'anonymous lambda' called without required argument 'needed' {AT}",
    ),
    "excess-argument": (
        FAILED,
        f"anonymous function {AT} called with unexpected argument 'excess' {AT}",
        f"function 'anonymous lambda' called with unexpected argument 'excess' {AT}",
    ),
    "lacking-attribute": (FAILED, f"attribute 'lib' missing {AT}"),
    "wrong-type": (FAILED, f"cannot add a string to an integer {AT}"),
    "no-builder": (
        FAILED,
        f"required attribute 'builder' missing {AT}",
        "required attribute 'builder' missing",
    ),
    "absent-file": (
        FAILED,
        "getting status of 'source/absent.nix': No such file or directory",
        "path 'source/absent.nix' does not exist",
    ),
    "from-derivation": (FAILED, IFD),
    "reads-derivation": (FAILED, IFD),
    "channel": (FAILED, f"{CHANNEL} {AT}", CHANNEL),
}
# Whose words have hashes in them.
BEGINNINGS = {
    "bad-syntax": ("syntax error, unexpected ';' at /nix/store/",),
    "bad-name": ("store path '", "invalid derivation name: name 'bad name' contains illegal"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("troubles") / "source"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("troubles.nix"), folder / "default.nix")
    return folder


def error(source: Path, *packages: str) -> Terminal:
    with pytest.raises(Terminal) as caught:
        evaluate(source, packages, attribute=None, system=SYSTEM, store=NixStore(), timeout=120)
    return caught.value


def without_places(message: str) -> str:
    return re.sub(r"(source/default\.nix):[0-9]+:[0-9]+", r"\1", message)


@pytest.mark.parametrize("package", TROUBLES)
def test_each_trouble_is_told_in_one_line(source: Path, package: str) -> None:
    reason, *words = TROUBLES[package]
    found = error(source, package)
    assert found.reason is reason
    assert without_places(found.message) in [f"{package}: {each}" for each in words]


@pytest.mark.parametrize("package", BEGINNINGS)
def test_nix_s_words_about_names_and_syntax_are_told(source: Path, package: str) -> None:
    found = error(source, package)
    assert found.reason is FAILED
    assert found.message.removeprefix(f"{package}: ").startswith(BEGINNINGS[package])
    assert "\n" not in found.message


def test_all_troubles_are_told_at_once(source: Path) -> None:
    """Those that end an evaluation do not hide the others."""
    asked = ["fine", *TROUBLES, "sets.tools.upper"]
    found = error(source, *asked)
    assert found.reason is NOT_THERE
    header, *lines = without_places(found.message).split("\n")
    assert header == f"{len(TROUBLES)} of {len(asked)} packages cannot be used:"
    for line, (package, (_, *words)) in zip(lines, TROUBLES.items(), strict=True):
        assert line in [f"{package}: {each}" for each in words]


def test_nothing_was_built_for_an_evaluation(source: Path) -> None:
    """`from-derivation` has no builder: Nix would have said so."""
    assert "/none" not in error(source, "from-derivation").message
