"""The first step: a pinned source to store paths. Runs what tenants wrote."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from niximage.api.build import BuildOutputs, BuildRequest, BuiltPackage
from niximage.builder.progress import Say, silent, timed, watcher
from niximage.builder.sources import look_up, tell_refused
from niximage.errors import Reason, Terminal
from niximage.image.closure import store_path_name
from niximage.nix.activity import Progress
from niximage.nix.closure_walk import Walk
from niximage.nix.evaluate import EvaluatedPackage, evaluate
from niximage.nix.nar_hash import check_nar_hash
from niximage.nix.programs import NixStore
from niximage.nix.realise import realise
from niximage.nix.substituters import Substituters
from niximage.source.fetch import fetch
from niximage.source.folder import copy_folder, is_folder

# The name is part of store paths that copy the source whole: the same as Nix's own fetchers'.
_SOURCE: Final = "source"
_SHOWN: Final = 10  # packages, in a message
# What a machine's processor runs besides its own system's programs.
_BUILT_BY: Final = {"x86_64": ("x86_64-linux", "i686-linux")}


def run_build(
    request: BuildRequest,
    *,
    nix: NixStore,
    caches: Substituters | None = None,
    scratch: Path,
    roots: Path,
    timeout: float,
    allow_file: bool = False,
    say: Say = silent,
) -> BuildOutputs:
    """Fetch the source, evaluate the packages, realise the outputs that no binary cache has.

    Args:
        request: what to build.
        nix: how the Nix programs are set up.
        caches: what these have with all its references is not brought into the store.
        scratch: an empty folder of this step's own.
        roots: a folder whose links keep outputs from garbage collection; kept until the image
            is published.
        timeout: seconds for all of it.
        allow_file: whether the source may be a `file://` URL, or a folder of this machine.
        say: takes progress, one line at a time.

    Raises:
        Terminal: the source, the packages or their builds are at fault, something would have to
            be built that may not be, or it took too long.
        Retryable: the source or a substituter cannot be reached now.
    """
    deadline = time.monotonic() + timeout

    def left() -> float:
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise Terminal(
                Reason.BUILD_TIMEOUT,
                f"the build did not finish within {timeout:.0f} s",
                hint="Give it more time with spec.timeout",
            )
        return seconds

    if (known := _known(request, caches)) is not None:
        say(f"{len(known.packages)} packages were evaluated before, and binary caches have them")
        return known
    with timed(say, f"fetched revision {request.source.revision[:12]}", stage="evaluate"):
        if allow_file and is_folder(request.source):
            source = copy_folder(request.source, scratch / _SOURCE)
        else:
            source = fetch(request.source, scratch / _SOURCE, timeout=left(), allow_file=allow_file)
    if request.source.nar_hash is not None:
        with timed(say, "checked the source's hash", stage="evaluate"):
            check_nar_hash(scratch / _SOURCE, request.source.nar_hash, store=nix, timeout=left())
    with timed(say, f"evaluated {len(request.packages)} packages", stage="evaluate"):
        packages = evaluate(
            source.path,
            request.packages,
            attribute=request.source.attr,
            system=request.system,
            store=nix,
            timeout=left(),
            root=scratch / _SOURCE,
            config=request.nixpkgs_config,
        )
    outputs = {path for package in packages for path in package.outputs.values()}
    with timed(say, stage="realise"):
        walk, missing = look_up(outputs, caches)
        if caches is not None:
            say(f"{len(outputs) - len(missing)} of {len(outputs)} outputs are in binary caches")
            tell_refused(walk, say)
        wanted = [found for package in packages if (found := package.only(missing)).outputs]
        if wanted and (why := _why_not_here(nix, request.system)):
            raise _local_build_required(wanted, walk, why)
        if wanted:
            with timed(say, f"realised {len(missing)} outputs"):
                realise(wanted, store=nix, timeout=left(), roots=roots, on_progress=_Narrator(say))
    return BuildOutputs(
        packages=[
            BuiltPackage(attribute=package.attribute, outputs=dict(package.outputs))
            for package in packages
        ],
        source_time=source.time,
    )


def _known(request: BuildRequest, caches: Substituters | None) -> BuildOutputs | None:
    """What the packages were evaluated to before, if nothing of it needs its derivation."""
    known = request.known
    if known is None or caches is None:
        return None
    if [package.attribute for package in known.packages] != request.packages:
        return None
    paths = {path for package in known.packages for path in package.outputs.values()}
    return None if look_up(paths, caches)[1] else known


def _why_not_here(nix: NixStore, system: str) -> str:
    """Why nothing may be built on this machine for a system; "" if it may."""
    if not nix.local_builds:
        return "local builds are forbidden"
    machine = os.uname().machine
    # Without settings of ours the machine's own Nix may know of other builders.
    if nix.substituters is not None and system not in _BUILT_BY.get(machine, (f"{machine}-linux",)):
        return f"this machine cannot build for {system}"
    return ""


def _local_build_required(packages: Sequence[EvaluatedPackage], walk: Walk, why: str) -> Terminal:
    shown = [
        f"{package.attribute}: {store_path_name(package.derivation)}"
        + "".join(f"; {walk.refused[p]}" for p in package.outputs.values() if p in walk.refused)
        for package in packages[:_SHOWN]
    ]
    more = [f"and {len(packages) - _SHOWN} more"] if len(packages) > _SHOWN else []
    count = "1 package is" if len(packages) == 1 else f"{len(packages)} packages are"
    return Terminal(
        Reason.LOCAL_BUILD_REQUIRED,
        "\n".join([f"{count} in no trusted binary cache, and {why}:", *shown, *more]),
        hint="Choose a revision that a binary cache has, add a cache that has it, or allow builds",
        derivation=packages[0].derivation,
    )


class _Narrator:
    """Says what begins to be built or fetched, not each step of a counter."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._last = ""

    def __call__(self, progress: Progress) -> None:
        watcher(self._say).realising(progress.done, progress.expected, progress.what)
        if progress.what and progress.what != self._last:
            self._last = progress.what
            self._say(f"{progress.what} ({progress.done} of {progress.expected} built)")
