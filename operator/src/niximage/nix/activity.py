"""Nix's own account of a build, read line by line.

With `--log-format internal-json` each line of stderr is an event: an activity that starts or
stops, a result within one, a message. Of these the progress, the logs of builders and the
errors are kept, each bounded. Anything else on stderr is kept as text.
"""

import json
import re
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Any, Final

from niximage.errors import plain_text

LOGS_KEPT: Final = 64  # derivations whose log is remembered, the latest
LOG_LINES: Final = 50  # of each
LINE_LENGTH: Final = 400  # bytes of each
LONG_LINE: Final = 4096  # characters, beyond which what matters stands at a line's end
ERRORS_KEPT: Final = 20
ERROR_LENGTH: Final = 4096  # bytes of each

_PREFIX: Final = "@nix "
# Numbers of nix's enumerations of activities and results (logging.hh), stable since 2.0.
_COPY_PATH: Final = 100
_BUILDS: Final = 104
_BUILD: Final = 105
_SUBSTITUTE: Final = 108
_LOG_LINE: Final = 101
_PROGRESS: Final = 105
_ERROR_LEVEL: Final = 0

_DERIVATION = re.compile(r"'(/nix/store/[0-9a-z]{32}-[^'\s]+\.drv)'")
_OF_DEPENDENCY = re.compile(r"dependenc(y|ies) of|dependency failed|dependencies failed")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a build is.

    Attributes:
        done: derivations that were built.
        expected: derivations that were or will be built.
        what: what starts now: `building hello-2.12`; or "".
    """

    done: int
    expected: int
    what: str


class Activities:
    """What a Nix program has said so far."""

    def __init__(self) -> None:
        self._logs: OrderedDict[str, deque[str]] = OrderedDict()
        self._building: dict[int, str] = {}
        self._errors: deque[str] = deque(maxlen=ERRORS_KEPT)
        self._text: deque[str] = deque(maxlen=LOG_LINES)
        self._latest = ""
        self._builds_id: int | None = None
        self._progress = Progress(0, 0, "")

    def read(self, line: str) -> Progress | None:
        """Take in a line of stderr.

        Returns:
            The progress, where the line changed it.
        """
        if not line.startswith(_PREFIX):
            self._text.append(plain_text(line, LINE_LENGTH))
            return None
        try:
            event = json.loads(line[len(_PREFIX) :])
        except (ValueError, RecursionError):
            return None
        if not isinstance(event, dict):
            return None
        before = self._progress
        match event.get("action"):
            case "start":
                self._start(event)
            case "stop":
                self._building.pop(_number(event.get("id")), None)
            case "result":
                self._result(event)
            case "msg" if event.get("level") == _ERROR_LEVEL:
                # Since 2.4 the message also comes without the trace that it is wrapped in.
                text = event.get("raw_msg") or event.get("msg", "")
                self._errors.append(plain_text(str(text), ERROR_LENGTH))
        return self._progress if self._progress != before else None

    @property
    def failed_derivation(self) -> str:
        """The derivation at the root of a failure, or ""."""
        for error in self._errors:
            if found := _DERIVATION.search(error):
                # What only needs the one that failed is told later, and is not the cause.
                if _OF_DEPENDENCY.search(error):
                    continue
                return found[1]
        return ""

    @property
    def latest_derivation(self) -> str:
        """The derivation whose build began or said something last, or ""."""
        return self._latest

    def error(self) -> str:
        """What went wrong: the first error that names its cause, else what there is."""
        for error in self._errors:
            if not _OF_DEPENDENCY.search(error):
                return _without_prefix(error)
        return _without_prefix("\n".join(self._errors or self._text))

    def log_tail(self, derivation: str) -> str:
        """The last lines of a builder's log."""
        return "\n".join(self._logs.get(derivation, ()))

    def _start(self, event: dict[str, Any]) -> None:
        number = _number(event.get("id"))
        match event.get("type"), event.get("fields"):
            case int(kind), _ if kind == _BUILDS:
                self._builds_id = number
            case int(kind), [str(derivation), *_] if kind == _BUILD:
                self._building[number] = derivation
                self._latest = derivation
                self._logs[derivation] = deque(maxlen=LOG_LINES)
                while len(self._logs) > LOGS_KEPT:
                    self._logs.popitem(last=False)
                self._say("building", derivation.removesuffix(".drv"))
            case int(kind), [str(path), *_] if kind in {_SUBSTITUTE, _COPY_PATH}:
                self._say("fetching", path)
            case _:
                pass  # of no interest, or of a later Nix

    def _result(self, event: dict[str, Any]) -> None:
        number = _number(event.get("id"))
        match event.get("type"), event.get("fields"):
            case int(kind), [str(line)] if kind == _LOG_LINE:
                derivation = self._building.get(number, "")
                log = self._logs.get(derivation)
                if log is not None:
                    self._latest = derivation
                    log.append(_shown(line))
            case int(kind), [int(done), int(expected), *_] if (
                kind == _PROGRESS and number == self._builds_id
            ):
                self._progress = Progress(done, expected, self._progress.what)
            case _:
                pass

    def _say(self, what: str, path: str) -> None:
        name = path.rpartition("/")[2][33:]
        self._progress = Progress(
            self._progress.done, self._progress.expected, f"{what} {plain_text(name, 200)}"
        )


def _shown(line: str) -> str:
    if len(line) <= LONG_LINE:
        return plain_text(line, LINE_LENGTH)
    return plain_text(line[-LONG_LINE:], LINE_LENGTH, keep="end")


def _number(value: Any) -> int:
    return value if isinstance(value, int) else -1


def _without_prefix(error: str) -> str:
    return error.strip().removeprefix("error:").strip()
