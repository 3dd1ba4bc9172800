"""What is wrong with requested packages, told all at once.

Each problem has its own reason; the error has the gravest, in this order: a package that is
not there, one that does not evaluate, one that the source refuses. That is the order in which
users have to mend them. What only the network is to blame for comes last, and is tried again.
"""

import difflib
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from niximage.errors import NixImageError, Reason, Retryable, Terminal, plain_text

NEAR_NAMES: Final = 3
SHOWN: Final = 40  # problems of one error that are told in full
MESSAGE_LIMIT: Final = 400  # bytes of what Nix says of one package

_ORDER: Final = (
    Reason.PACKAGE_NOT_FOUND,
    Reason.EVALUATION_FAILED,
    Reason.UNFREE_OR_INSECURE,
    Reason.SOURCE_UNAVAILABLE,
)
_HINTS: Final = {
    Reason.PACKAGE_NOT_FOUND: "Correct spec.packages, or choose a source that has them",
    Reason.EVALUATION_FAILED: "Leave the packages out, or choose another revision of the source",
    Reason.UNFREE_OR_INSECURE: "Otherwise choose other packages",
    Reason.SOURCE_UNAVAILABLE: "Check the network, and what the source fetches",
}
# What Nix calls the types of values, where users may not know the word.
_TYPES: Final = {
    "lambda": "a function, which makes one: call it in a package set of your own",
    "null": "null",
    "int": "a number",
    "float": "a number",
    "bool": "true or false",
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
# What no field allows, for there is nothing that could run.
_OTHER_PLATFORM: Final = re.compile(
    r"(?P<name>\S+) in (?P<where>\S+) is not available on the requested hostPlatform"
)
_SYSTEM: Final = re.compile(r"hostPlatform\.(?:system|config) = \"(?P<system>[^\"]{1,64})\"")
_UNREACHABLE = re.compile(r"unable to download '(?!file:)")
# Nix's words about settings that nobody has here, and what they mean instead.
_OUR_WORDS: Final = (
    (
        re.compile(
            r"cannot build '/nix/store/\w+-(?P<name>[^']*?)(?:\.drv)?(?:\^[^']*)?' during "
            r"evaluation because the option 'allow-import-from-derivation' is disabled"
        ),
        (
            "its evaluation needs {name} to be built first (import from derivation), and "
            "evaluating builds nothing: keep what that makes in the source"
        ),
    ),
    (
        re.compile(
            r"file '(?P<name>[^']*)' was not found in the Nix search path \(add it using .*\)"
        ),
        (
            "<{name}> is looked for, and there is no search path here: take it from the source, "
            "or fetch it by its hash"
        ),
    ),
)
_PLACE = re.compile(r"^at (?P<where>\S+:\d+(?::\d+)?):$")
_ERROR_LINE = re.compile(r"^\s*error:\s?(?P<rest>.*)$")
# Advice about options, and pictures of source lines: ours above all.
_LEFT_OUT = re.compile(
    r"^\((use '--show-trace'|stack trace truncated)|^\s*\d*\|( |$)|^\s*at \S*evaluate\.nix:"
)
_OURS: Final = re.compile(r"/evaluate\.nix:|^\s*\((?:stack trace truncated|use '--show-trace')")
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


def error_of(problems: Sequence[Problem], requested: int) -> NixImageError:
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
    kind = Retryable if reason is Reason.SOURCE_UNAVAILABLE else Terminal
    return kind(reason, "\n".join(lines), hint=_HINTS[reason])


def not_found(package: str, at: Sequence[str], names: Iterable[str]) -> Problem:
    """A package of which some part of its name is not there.

    Args:
        package: its name as users wrote it.
        at: the parts that are there, and hold sets.
        names: what is there in the place of the next part.
    """
    path = package.partition("^")[0]
    return Problem(package, Reason.PACKAGE_NOT_FOUND, absent(path, at, names))


def absent(path: str, at: Sequence[str], names: Iterable[str]) -> str:
    """What to say of an attribute that is not there: its first such part, and near names.

    Args:
        path: the attribute's path, with dots.
        at: the parts that are there, and hold sets.
        names: what is there in the place of the next part.
    """
    names = list(names)
    name, *rest = path.split(".")[len(at) :]
    near = [".".join([*at, each]) for each in near_names(name, names)]
    if not near and rest and rest[0] in names:  # `nixpkgs.hello`, as other tools have it
        near = [".".join([*at, *rest])]
    return f"there is no {name!r}" + (f"; near names: {', '.join(near)}" if near else "")


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
        unreachable = _UNREACHABLE.search(message) is not None
        reason = Reason.SOURCE_UNAVAILABLE if unreachable else Reason.EVALUATION_FAILED
        return Problem(package, reason, message)
    why = found["why"].removesuffix(", refusing to evaluate.").rstrip(":")
    text = f"{found['name']} in {found['where']} {why}"
    field = next((field for sign, field in _ALLOWED_BY if sign.search(why)), None)
    if (made_for := _OTHER_PLATFORM.match(text)) is not None:
        said = _SYSTEM.search(message)
        system = said["system"] if said is not None else "this platform"
        text = (
            f"{made_for['name']} in {made_for['where']} is not made for {system}, which "
            "spec.platforms asks for"
        )
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
        elif not message or _LEFT_OUT.match(line):
            continue
        elif place := _PLACE.match(line.strip()):
            while not message[-1] and len(message) > 1:
                message.pop()
            message[-1] += f" at {place['where']}"
        else:
            message.append(line.strip())
    if not any(message):
        message = lines[-10:]
    text = _BLANK_LINES.sub("\n", "\n".join(message)).strip()
    for theirs, ours in _OUR_WORDS:
        if found := theirs.search(text):
            text = text.replace(found[0], ours.format(name=found["name"]))
    return plain_text(text, MESSAGE_LIMIT)


def trace(stderr: str) -> str:
    """What Nix printed, without what is about our own expression, bounded."""
    paragraphs = plain_text(stderr, 1 << 20, keep="end").split("\n\n")
    theirs = [each for each in paragraphs if not _OURS.search(each)]
    return plain_text(textwrap.dedent("\n\n".join(theirs)), 2048, keep="end")


def type_name(kind: str) -> str:
    """What to call a type of values that Nix names."""
    return _TYPES.get(kind, f"a {kind}")


def near_names(name: str, names: Iterable[str]) -> list[str]:
    """Up to three names that a user may have meant, the nearest first."""
    spelled: dict[str, str] = {}
    for known in sorted(names):
        spelled.setdefault(known.casefold(), known)
    wanted = name.casefold()
    near = difflib.get_close_matches(wanted, spelled, n=NEAR_NAMES, cutoff=0.7)
    return [spelled[each] for each in near]
