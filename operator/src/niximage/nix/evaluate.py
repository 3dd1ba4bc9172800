"""Package names to derivations and store paths, or all that is wrong with them at once.

One evaluation looks at all packages. Where some throw, each of these is evaluated again by
itself, for the message: `tryEval` tells that something was thrown, not what. Where the whole
evaluation dies (`abort`, infinite recursion, a type error: nothing catches these), the source
alone is tried, then each package by itself, so that the one at fault is named.
"""

import json
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from niximage.api.build import STORE_PATH_PATTERN
from niximage.api.contents import NixpkgsConfig
from niximage.api.platforms import SYSTEMS
from niximage.errors import Reason, Retryable, Terminal, plain_text
from niximage.nix.problems import (
    Problem,
    absent,
    error_message,
    error_of,
    not_found,
    threw,
    trace,
    type_name,
)
from niximage.nix.programs import NixStore, run

EXPRESSION: Final = Path(__file__).with_name("evaluate.nix")
OUTPUTS_LIMIT: Final = 32  # of one package
_FILES_SHOWN: Final = 5
_MEND: Final = "Choose another revision of the source, or mend it"
_MEND_CALL: Final = (
    "The source is called with system, config and overlays: give all else a default, or point path "
    "at a file that needs no more"
)
_LACKS_ARGUMENT: Final = re.compile(r"called without required argument")

_STORE_PATH = re.compile(STORE_PATH_PATTERN)
_OUTPUT_NAME = re.compile(r"^[A-Za-z0-9+._?=-]{1,64}$")


@dataclass(frozen=True, slots=True)
class EvaluatedPackage:
    """A package that can be realised.

    Attributes:
        attribute: what was asked for: `openssl^bin,out`.
        derivation: the store path of its derivation.
        outputs: the chosen outputs, name to store path.
    """

    attribute: str
    derivation: str
    outputs: Mapping[str, str]

    def only(self, paths: Collection[str]) -> "EvaluatedPackage":
        """The package with those of its outputs that have these paths, maybe none."""
        kept = {name: path for name, path in self.outputs.items() if path in paths}
        return EvaluatedPackage(self.attribute, self.derivation, kept)


def evaluate(
    source: Path,
    packages: Sequence[str],
    *,
    attribute: str | None,
    system: str,
    store: NixStore,
    timeout: float,
    root: Path | None = None,
    config: NixpkgsConfig | None = None,
) -> tuple[EvaluatedPackage, ...]:
    """Evaluate packages of a source; nothing is built.

    Args:
        source: the file or folder to import, an absolute path.
        packages: attribute paths, each perhaps with outputs after `^`.
        attribute: the attribute path of the value in the source that holds the packages.
        system: what to build for, as Nix says it.
        store: the settings.
        timeout: seconds for all of it.
        root: the folder that holds the source; messages name files relative to it, so that
            they are the same wherever it lies.
        config: what nixpkgs' checks let pass, for a source that takes it.

    Returns:
        The packages in their order.

    Raises:
        Terminal: the source is no package set; packages are missing, throw or are refused, all
            told at once; it took too long.
    """
    if source.is_dir() and not (source / "default.nix").is_file():
        raise _no_default(source)
    deadline = time.monotonic() + timeout
    config = config or NixpkgsConfig()
    evaluator = _Evaluator(
        source, root or source.parent, attribute, system, config, store, deadline
    )
    evaluated: list[EvaluatedPackage] = []
    problems: list[Problem] = []
    for package, answer in zip(packages, _ask_all(evaluator, packages), strict=True):
        result = _judge(evaluator, package, answer)
        if isinstance(result, Problem):
            problems.append(result)
        else:
            evaluated.append(result)
    if problems:
        raise error_of(problems, len(packages))
    return tuple(evaluated)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an evaluation says: of the source, of each package, of the names around them."""

    source: Mapping[str, Any]
    packages: Sequence[Mapping[str, Any]]
    names: Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class _Died:
    """An evaluation that ended with an error instead of an answer."""

    stderr: str


@dataclass(frozen=True, slots=True)
class _Evaluator:
    """Calls evaluate.nix on one source until a deadline."""

    source: Path
    root: Path
    attribute: str | None
    system: str
    config: NixpkgsConfig
    store: NixStore
    deadline: float

    def ask(self, packages: Sequence[str], *, guard: bool = True) -> _Answer | _Died:
        """Evaluate packages; without guard, the first that throws ends the evaluation."""
        request = {
            "source": str(self.source),
            "attr": self.attribute.split(".") if self.attribute else [],
            "system": self.system,
            # Only what was set: an empty configuration is what others call the source with.
            "config": self.config.model_dump(by_alias=True, exclude_defaults=True),
            "guard": guard,
            "packages": [_parse(package) for package in packages],
        }
        arguments = ["--eval", "--strict", "--json", "--read-write-mode"]
        arguments += ["--option", "allow-import-from-derivation", "false"]
        arguments += [str(EXPRESSION), "--argstr", "request", json.dumps(request)]
        left = max(self.deadline - time.monotonic(), 0.1)
        finished = run("nix-instantiate", arguments, store=self.store, timeout=left)
        if finished.code != 0:
            return _Died(finished.stderr.replace(f"{self.root}/", ""))
        try:
            document = json.loads(finished.stdout)
            answer = _Answer(document["source"], document["packages"], document["names"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _malformed(str(error)) from None
        if len(answer.packages) not in {0, len(packages)}:
            raise _malformed(f"{len(answer.packages)} packages instead of {len(packages)}")
        return answer


def _ask_all(evaluator: _Evaluator, packages: Sequence[str]) -> Iterator[_Answer | _Died]:
    """One answer for each package, from as few evaluations as can be."""
    together = evaluator.ask(packages)
    if isinstance(together, _Answer):
        _check_source(evaluator, together)
        for report in together.packages:
            yield _Answer(together.source, [report], together.names)
        return
    _check_source(evaluator, evaluator.ask([]))
    for package in packages:
        yield evaluator.ask([package])


def _check_source(evaluator: _Evaluator, answer: _Answer | _Died) -> None:
    """Refuse a source that is no set of packages."""
    if isinstance(answer, _Answer):
        match answer.source:
            case {"status": "ok"}:
                return
            case {"status": "missing", "at": list(at)}:
                raise _no_such_attribute(evaluator.attribute or "", at, answer.names)
            case {"status": "not-a-set", "type": kind}:
                raise Terminal(
                    Reason.INVALID_SOURCE,
                    f"the source evaluates to {type_name(str(kind))}, not to a set of packages",
                    hint="Set the source's path, or its attr, to what holds the packages",
                )
        answer = evaluator.ask([], guard=False)
    stderr = answer.stderr if isinstance(answer, _Died) else ""
    raise Terminal(
        Reason.EVALUATION_FAILED,
        f"the source does not evaluate: {error_message(stderr)}",
        hint=_MEND_CALL if _LACKS_ARGUMENT.search(stderr) else _MEND,
        log_tail=trace(stderr),
    )


def _no_default(source: Path) -> Terminal:
    """The error of a folder that Nix cannot import, with what it has instead."""
    if (source / "flake.nix").is_file():
        return Terminal(
            Reason.INVALID_SOURCE,
            "the source has a flake.nix at its path, and no default.nix: flakes are not read",
            hint="Add a default.nix that evaluates to a set of packages",
        )
    found = sorted(each.name for each in source.glob("*.nix") if each.is_file())[:_FILES_SHOWN]
    there = f"; there is {', '.join(found)}" if found else ""
    return Terminal(
        Reason.INVALID_SOURCE,
        f"the source has no default.nix at its path{plain_text(there, 300)}",
        hint="Set the source's path to the Nix file or folder that holds the packages",
    )


def _no_such_attribute(attribute: str, at: Sequence[str], names: Mapping[str, Any]) -> Terminal:
    what = absent(attribute, at, names.get(".".join(at), []))
    return Terminal(
        Reason.INVALID_SOURCE,
        f"source.attr {attribute!r} leads nowhere: {what}",
        hint="Correct the source's attr",
    )


def _judge(
    evaluator: _Evaluator, package: str, answer: _Answer | _Died
) -> EvaluatedPackage | Problem:
    """Make an answer about one package a result or a problem."""
    if isinstance(answer, _Died):
        return threw(package, answer.stderr)
    takes_config = answer.source.get("takesConfig") is True
    match answer.packages[0]:
        case {"status": "ok", "runsOn": str(system)} if (
            system != evaluator.system and system in SYSTEMS.values()
        ):
            text = f"it is for {system}, not for {evaluator.system}: its source must take `system`"
            return Problem(package, Reason.EVALUATION_FAILED, text)
        case {"status": "ok", "derivation": derivation, "chosen": list(chosen)}:
            return _evaluated(package, derivation, chosen)
        case {"status": "missing", "at": list(at)}:
            return not_found(package, at, answer.names.get(".".join(at), []))
        case {"status": "not-a-derivation", "type": kind}:
            what = type_name(str(kind))
            what += f"; name one of the packages in it: {package}.…" if kind == "set" else ""
            return Problem(package, Reason.PACKAGE_NOT_FOUND, f"it is no package but {what}")
        case {"status": "no-such-output", "wrong": list(wrong), "outputs": list(outputs)}:
            there = ", ".join(map(str, outputs))
            text = f"it has no output {', '.join(map(str, wrong))}, only {there}"
            return Problem(package, Reason.PACKAGE_NOT_FOUND, text)
    alone = evaluator.ask([package], guard=False)
    stderr = alone.stderr if isinstance(alone, _Died) else ""
    return threw(package, stderr, takes_config=takes_config)


def _evaluated(package: str, derivation: Any, chosen: list[Any]) -> EvaluatedPackage | Problem:
    """Check what the source's code says of a package before it goes anywhere."""
    outputs: dict[str, str] = {}
    for each in chosen:
        match each:
            case {"name": str(name), "path": str(path)} if _OUTPUT_NAME.fullmatch(
                name
            ) and _STORE_PATH.fullmatch(path):
                outputs[name] = path
    sound = (
        isinstance(derivation, str)
        and _STORE_PATH.fullmatch(derivation) is not None
        and derivation.endswith(".drv")
        and 0 < len(outputs) == len(chosen) <= OUTPUTS_LIMIT
    )
    if sound:
        return EvaluatedPackage(package, derivation, outputs)
    return Problem(package, Reason.EVALUATION_FAILED, "its derivation or outputs are malformed")


def _parse(package: str) -> dict[str, Any]:
    path, _, outputs = package.partition("^")
    return {"path": path.split("."), "outputs": outputs.split(",") if outputs else None}


def _malformed(what: str) -> Retryable:
    return Retryable(
        Reason.RESULT_INVALID,
        f"the evaluation gave an unexpected answer: {plain_text(what, 300)}",
        hint="Is this Nix 2.8 or later?",
    )
