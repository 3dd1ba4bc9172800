"""What is wrong with requested packages, told all at once.

Each problem has its own reason; the error has the gravest, in this order: a package that is
not there, one that does not evaluate, one that the source refuses. That is the order in which
users have to mend them.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from niximage.errors import Reason, Terminal, plain_text

NEAR_NAMES: Final = 3
SHOWN: Final = 40  # problems of one error that are told in full
MESSAGE_LIMIT: Final = 400  # bytes of what Nix says of one package

_ORDER: Final = (Reason.PACKAGE_NOT_FOUND, Reason.EVALUATION_FAILED, Reason.UNFREE_OR_INSECURE)
_HINTS: Final = {
    Reason.PACKAGE_NOT_FOUND: "Correct spec.packages, or choose a source that has them",
    Reason.EVALUATION_FAILED: "Leave the packages out, or choose another revision of the source",
    Reason.UNFREE_OR_INSECURE: "Allow them as said above, or choose other packages",
}

# nixpkgs' words (pkgs/stdenv/generic/check-meta.nix), until 25.11 and since. What follows tells
# how to allow the package on a command line: not here.
_REFUSALS: Final = (
    re.compile(r"Package \u2018(?P<name>[^\u2019]*)\u2019 in (?P<where>\S+) (?P<why>.*)"),
    re.compile(
        r"Refusing to evaluate package '(?P<name>[^']*)' in (?P<where>\S+) because it (?P<why>.*"
        r"(?:\n- .*)*)"
    ),
)
# Why a package is refused, and the field of spec.nixpkgsConfig that lets it pass.
_ALLOWED_BY: Final = (
    (re.compile(r"has an unfree license"), "allowUnfree: true"),
    (re.compile(r"is marked as broken|^- broken:", re.MULTILINE), "allowBroken: true"),
    (re.compile(r"is marked as insecure"), "permittedInsecurePackages: [{name}]"),
)
_ERROR_LINE = re.compile(r"^\s*error:\s?(?P<rest>.*)$")
# Advice about options, and pictures of source lines: ours above all.
_LEFT_OUT = re.compile(
    r"^\((use '--show-trace'|stack trace truncated)|^\s*\d*\|( |$)|^\s*at \S*evaluate\.nix:"
)
_BLANK_LINES = re.compile(r"\n{2,}")


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one package.

    Attributes:
        package: its name as users wrote it.
        reason: the condition reason it would have alone.
        text: what is wrong, one or more lines.
    """

    package: str
    reason: Reason
    text: str


def error_of(problems: Sequence[Problem], requested: int) -> Terminal:
    """One error that tells of all problems.

    Args:
        problems: at least one.
        requested: how many packages were asked for.
    """
    reason = min((problem.reason for problem in problems), key=_ORDER.index)
    lines = [f"{p.package}: {p.text}" for p in problems[:SHOWN]]
    if len(problems) > SHOWN:
        lines.append(f"and {len(problems) - SHOWN} more")
    if len(problems) > 1:
        lines.insert(0, f"{len(problems)} of {requested} packages cannot be used:")
    return Terminal(reason, "\n".join(lines), hint=_HINTS[reason])


def not_found(package: str, name: str, names: Iterable[str]) -> Problem:
    """A package of which some part of its name is not there.

    Args:
        package: its name as users wrote it.
        name: the first part that is not there.
        names: what is there in its place.
    """
    near = name_list(near_names(name, names))
    return Problem(package, Reason.PACKAGE_NOT_FOUND, f"there is no {name!r}{near}")


def threw(package: str, stderr: str, *, takes_config: bool = True) -> Problem:
    """A package whose evaluation ended with an error.

    Args:
        package: its name as users wrote it.
        stderr: what Nix printed.
        takes_config: whether the source takes nixpkgs' configuration.
    """
    message = error_message(stderr)
    found = next((match for each in _REFUSALS if (match := each.match(message))), None)
    if found is None:
        return Problem(package, Reason.EVALUATION_FAILED, message)
    why = found["why"].removesuffix(", refusing to evaluate.").rstrip(":")
    text = f"{found['name']} in {found['where']} {why}"
    field = next((field for sign, field in _ALLOWED_BY if sign.search(why)), None)
    if field is None:
        return Problem(package, Reason.EVALUATION_FAILED, text)
    if takes_config:
        way = f"to allow it, set spec.nixpkgsConfig.{field.format(name=found['name'])}"
    else:
        way = "the source takes no config: allow it there"
    return Problem(package, Reason.UNFREE_OR_INSECURE, f"{text}; {way}")


def error_message(stderr: str) -> str:
    """The last error in what Nix printed, without its trace and advice, bounded.

    Nix before 2.20 prints the error first and its place after; later ones print the trace
    first and the error last.
    """
    lines = plain_text(stderr, 1 << 20, keep="end").split("\n")
    message: list[str] = []
    for line in lines:
        if found := _ERROR_LINE.match(line):
            message = [found["rest"]]
        elif message and not _LEFT_OUT.match(line):
            message.append(line.strip())
    if not any(message):
        message = lines[-10:]
    return plain_text(_BLANK_LINES.sub("\n", "\n".join(message)), MESSAGE_LIMIT)


def name_list(near: Sequence[str]) -> str:
    """What to say of near names after a name that is not there."""
    return f"; near names: {', '.join(near)}" if near else ""


def near_names(name: str, names: Iterable[str]) -> list[str]:
    """Up to three names that a user may have meant, the nearest first."""
    spelled: dict[str, str] = {}
    for known in sorted(names):
        spelled.setdefault(known.casefold(), known)
    wanted = name.casefold()
    near = difflib.get_close_matches(wanted, spelled, n=NEAR_NAMES, cutoff=0.7)
    return [spelled[each] for each in near]
