"""Errors as text and exit codes: the one place where the command line ends badly."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from niximage.errors import NixImageError, exit_code, plain_text


@contextmanager
def told() -> Iterator[None]:
    """Say what went wrong on standard error, and exit with the error's code.

    Only errors of ours: anything else is a bug, and its traceback is the report.
    """
    try:
        yield
    except NixImageError as error:
        lines = [f"niximage: {error.reason}: {plain_text(error.message, 4000)}"]
        if error.derivation:
            lines.append(f"  derivation: {plain_text(error.derivation, 300)}")
        if error.log_tail:
            tail = plain_text(error.log_tail, 4000, keep="end").splitlines()
            lines += ["  last lines of its log:", *(f"    {line}" for line in tail)]
        if error.hint:
            lines.append(f"  {error.hint}" + ("" if error.hint.endswith(("?", ".")) else "."))
        print("\n".join(lines), file=sys.stderr)  # noqa: T201 (a command line prints)
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        sys.exit(130)
