"""Every failure the project knows, with the reason users see in conditions.

    NixImageError
    ├── Retryable    the world was in the way: tried again with backoff
    └── Terminal     the input is at fault: only a change of it can help

An error says what happened, where, and what to do next. It is mapped to an exit code by
`exit_code`, to conditions by `niximage.controller.decision.conditions`, and to text by
`niximage.cli.failure`: one place each.

This module lies below all others, so that none needs to import another for its errors.
"""

import enum
import re
import unicodedata


class Reason(enum.StrEnum):
    """The machine-readable word in a condition: stable, CamelCase, one per kind of trouble."""

    # What goes well, or on.
    SUCCEEDED = "Succeeded"
    PROGRESSING = "Progressing"
    RESOLVING_SOURCE = "ResolvingSource"
    BUILDING = "Building"
    PUBLISHING = "Publishing"
    PROGRESSING_WITH_RETRY = "ProgressingWithRetry"
    NEW_REVISION = "NewRevision"
    SUSPENDED = "Suspended"
    QUEUED = "Queued"
    WAITING_FOR_CLASS = "WaitingForClass"
    POD_PENDING = "PodPending"

    # The input is at fault: Terminal.
    INVALID_SPEC = "InvalidSpec"
    INVALID_SOURCE = "InvalidSource"
    REFERENCE_NOT_FOUND = "ReferenceNotFound"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    PACKAGE_NOT_FOUND = "PackageNotFound"
    UNFREE_OR_INSECURE = "UnfreeOrInsecure"
    EVALUATION_FAILED = "EvaluationFailed"
    BUILD_FAILED = "BuildFailed"
    LOCAL_BUILD_REQUIRED = "LocalBuildRequired"
    SANDBOX_UNAVAILABLE = "SandboxUnavailable"
    HASH_MISMATCH = "HashMismatch"
    FILE_CONFLICT = "FileConflict"
    BUILD_TIMEOUT = "BuildTimeout"
    OUT_OF_MEMORY = "OutOfMemory"
    OUT_OF_DISK = "OutOfDisk"
    POLICY_DENIED = "PolicyDenied"
    DIGEST_MISMATCH = "DigestMismatch"

    # The world was in the way: Retryable.
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    CREDENTIALS_MISSING = "CredentialsMissing"
    CREDENTIALS_NOT_GRANTED = "CredentialsNotGranted"
    SUBSTITUTER_UNAVAILABLE = "SubstituterUnavailable"
    BUCKET_UNAVAILABLE = "BucketUnavailable"
    CLUSTER_UNAVAILABLE = "ClusterUnavailable"
    BUILD_INTERRUPTED = "BuildInterrupted"
    REMOVAL_FAILED = "RemovalFailed"
    CONFIG_MAP_TAKEN = "ConfigMapTaken"
    RESULT_INVALID = "ResultInvalid"
    INTERNAL_ERROR = "InternalError"


NO_FAILURES = frozenset(
    {
        Reason.SUCCEEDED,
        Reason.PROGRESSING,
        Reason.RESOLVING_SOURCE,
        Reason.BUILDING,
        Reason.PUBLISHING,
        Reason.PROGRESSING_WITH_RETRY,
        Reason.NEW_REVISION,
        Reason.SUSPENDED,
        Reason.QUEUED,
        Reason.WAITING_FOR_CLASS,
        Reason.POD_PENDING,
    }
)
"""The reasons that no error has."""


class NixImageError(Exception):
    """What happened, the reason of the condition it becomes, and what to do next.

    Attributes:
        reason: the condition reason.
        message: one or more lines for people: what, and where.
        hint: what to do next, one sentence; may be empty.
        derivation: the store path of the derivation that failed, or "".
        log_tail: the last lines of the log of what failed, or "".
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        hint: str = "",
        derivation: str = "",
        log_tail: str = "",
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.hint = hint
        self.derivation = derivation
        self.log_tail = log_tail

    def __str__(self) -> str:
        if not self.hint:
            return self.message
        if "\n" in self.message:
            return f"{self.message}\n{self.hint}"
        return f"{self.message.rstrip('.')}. {self.hint}"


class Retryable(NixImageError):  # noqa: N818 (reads as what to do: `except Retryable`)
    """The same input may succeed later: network, bucket, API server, an evicted pod.

    Attributes:
        retry_after: seconds that a server asked us to wait, or 0.
    """

    retry_after: float = 0.0


class Terminal(NixImageError):  # noqa: N818 (reads as what to do: `except Terminal`)
    """The same input fails again: only a new spec, source or class can help."""


# sysexits.h: what shells, and the Job's reader, may tell apart.
EXIT_TERMINAL = 65
EXIT_INTERNAL = 70
EXIT_RETRYABLE = 75


def exit_code(error: BaseException) -> int:
    """The process's exit code for an error: 65 input, 75 try again, 70 a bug of ours."""
    match error:
        case Terminal():
            return EXIT_TERMINAL
        case Retryable():
            return EXIT_RETRYABLE
        case _:
            return EXIT_INTERNAL


# CSI and OSC sequences, then any other escape of two characters.
_TERMINAL_CONTROL = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])?"
)


def plain_text(text: str, limit: int, *, keep: str = "start") -> str:
    """Text from an untrusted place made fit to show: no control characters, bounded.

    Args:
        text: anything, for example a build log with colours.
        limit: the most UTF-8 bytes to return.
        keep: which side survives the cut, "start" or "end".

    Returns:
        The text without escape sequences and control characters except newline and tab,
        stripped of outer blank space, with an ellipsis where it was cut.
    """
    text = _TERMINAL_CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c)[0] != "C").strip()
    data = text.encode("utf-8")
    if len(data) <= limit:
        return text
    mark = "…"
    room = max(limit - len(mark.encode()), 0)
    if keep == "end":
        return mark + data[len(data) - room :].decode("utf-8", "ignore")
    return data[:room].decode("utf-8", "ignore") + mark
