"""Derivations to outputs in the store: built, or taken from a substituter.

All that is wanted goes to one `nix-store --realise`, so that Nix sees the whole graph and
builds independent parts side by side.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from niximage.errors import NixImageError, Reason, Retryable, Terminal, plain_text
from niximage.image.closure import store_path_name
from niximage.nix.activity import Activities, Progress
from niximage.nix.evaluate import EvaluatedPackage
from niximage.nix.programs import NixStore, run

# The first wording until Nix 2.29, the second since.
_BUILDER_FAILED = re.compile(
    r"^(?:builder for '[^']+' |Cannot build '[^']+'\.\s+Reason: builder )(?P<how>failed[^\n;]*)"
)
_HASH_MISMATCH = re.compile(r"hash mismatch")
# The world's fault, said by Nix itself and not by a builder.
_TROUBLE_OF_THE_WORLD: Final = re.compile(
    r"No space left on device|unable to download|[Cc]ouldn't resolve host|cannot connect to daemon"
    r"|database is busy|Cannot allocate memory"
)


# Of Nix 2.8 to 2.34: the kernel grants no namespaces, or not what is to be done in them.
_NO_SANDBOX: Final = re.compile(
    r"kernel namespaces|cloning builder process|unable to start build process"
    r"|setting up (?:a )?(?:private mount|user) namespace|mounting /proc|setgroups failed"
    r"|unable to (?:make|create) (?:a |the )?(?:user|mount|private) "
)


def realise(
    packages: Sequence[EvaluatedPackage],
    *,
    store: NixStore,
    timeout: float,
    roots: Path,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Bring the chosen outputs of packages into the store.

    Args:
        packages: what to bring.
        store: the settings.
        timeout: seconds it may take.
        roots: a folder for links that keep the outputs from garbage collection.
        on_progress: called, from another thread, as builds and downloads go on.

    Raises:
        Terminal: a derivation does not build, a download is not what its hash says, or it
            took too long; with the derivation and the last lines of its log.
        Retryable: no space, no network, or something else that may pass.
    """
    activities = Activities()

    def on_line(line: str) -> None:
        progress = activities.read(line)
        if progress is not None and on_progress is not None:
            on_progress(progress)

    wanted = sorted({f"{p.derivation}!{','.join(p.outputs)}" for p in packages})
    arguments = ["--realise", "--log-format", "internal-json"]
    arguments += ["--add-root", str(roots / "output"), "--indirect", *wanted]
    try:
        finished = run("nix-store", arguments, store=store, timeout=timeout, on_line=on_line)
    except Terminal as error:
        if error.reason is not Reason.BUILD_TIMEOUT:
            raise
        raise _too_long(activities) from None
    if finished.code != 0:
        raise _failure(activities, sandbox=store.sandbox)
    printed = set(finished.stdout.decode("utf-8", "replace").split())
    if not printed:
        raise Retryable(Reason.RESULT_INVALID, "nix-store --realise named no outputs")


def _too_long(activities: Activities) -> Terminal:
    """The error of a build that was ended, with what it was at."""
    derivation = activities.latest_derivation
    log = activities.log_tail(derivation)
    at = f"{store_path_name(derivation).removesuffix('.drv')} was" if derivation else "they were"
    return Terminal(
        Reason.BUILD_TIMEOUT,
        f"the packages are not built within spec.timeout: {at} not done",
        hint="Raise spec.timeout"
        + (", if the end of its log tells of no standstill" if log else ""),
        derivation=derivation,
        log_tail=log,
    )


def _failure(activities: Activities, *, sandbox: bool) -> NixImageError:
    derivation = activities.failed_derivation
    error = plain_text(activities.error(), 600)
    if sandbox and _NO_SANDBOX.search(error):
        return Terminal(
            Reason.SANDBOX_UNAVAILABLE,
            f"Nix's sandbox is demanded, and cannot be had in this pod: {error}",
            hint="Give the NixBuildClass a runtimeClassName whose pods may make namespaces, or "
            "have a binary cache provide the packages",
            derivation=derivation,
        )
    if not derivation and _TROUBLE_OF_THE_WORLD.search(error):
        return Retryable(Reason.BUILD_INTERRUPTED, f"the packages cannot be realised: {error}")
    if _HASH_MISMATCH.search(error):
        return Terminal(
            Reason.HASH_MISMATCH,
            error,
            hint="What is downloaded is not what the source's hash says: update the source",
            derivation=derivation,
            log_tail=activities.log_tail(derivation),
        )
    if derivation:
        name = store_path_name(derivation).removesuffix(".drv")
        found = _BUILDER_FAILED.match(error)
        log = activities.log_tail(derivation)
        return Terminal(
            Reason.BUILD_FAILED,
            f"{name} does not build: {found['how'].rstrip('.') if found else error}",
            hint="The end of its log says why" if log else "",
            derivation=derivation,
            log_tail=log,
        )
    return Terminal(Reason.BUILD_FAILED, f"the packages cannot be realised: {error}")
