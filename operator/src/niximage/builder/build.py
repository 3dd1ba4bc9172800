"""The first step: a pinned source to store paths. Runs what tenants wrote."""

import time
from collections.abc import Sequence
from pathlib import Path

from niximage.api.build import BuildOutputs, BuildRequest, BuiltPackage
from niximage.api.platforms import SYSTEMS, Platform
from niximage.builder.fetch import SOURCE, bring_source, find_fetched
from niximage.builder.lacking import check_buildable, for_each, look_up_packages
from niximage.builder.progress import Say, silent, timed, watcher
from niximage.builder.sources import look_up
from niximage.errors import Reason, Terminal
from niximage.nix.activity import Progress
from niximage.nix.evaluate import EvaluatedPackage, evaluate
from niximage.nix.nar_hash import check_nar_hash
from niximage.nix.programs import NixStore
from niximage.nix.realise import realise
from niximage.nix.substituters import Substituters
from niximage.source.credentials import Credentials


def run_build(
    request: BuildRequest,
    *,
    nix: NixStore,
    caches: Substituters | None = None,
    scratch: Path,
    roots: Path,
    timeout: float,
    allow_file: bool = False,
    fetched: Path | None = None,
    credentials: Credentials | None = None,
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
        fetched: the folder that `run_fetch` left the source in, if it did.
        credentials: what opens the source, where no other step fetched it.
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

    known = _known(request, caches)
    if known:
        count = sum(len(packages) for packages in known.values())
        say(f"{count} packages were evaluated before, and binary caches have them")
    unknown = [platform for platform in request.platforms if platform not in known]
    if not unknown and request.known is not None:
        return BuildOutputs(packages=known, source_time=request.known.source_time)
    root = (fetched or scratch) / SOURCE
    if fetched is not None:
        source = find_fetched(request, fetched)
    else:
        source = bring_source(
            request.source,
            root,
            timeout=left(),
            allow_file=allow_file,
            credentials=credentials,
            say=say,
        )
    if request.source.nar_hash is not None:
        with timed(say, "checked the source's hash", stage="evaluate"):
            check_nar_hash(root, request.source.nar_hash, store=nix, timeout=left())

    def evaluated(platform: Platform) -> tuple[EvaluatedPackage, ...]:
        with timed(say, f"evaluated {_count(request.packages)} for {platform}", stage="evaluate"):
            return evaluate(
                source.path,
                request.packages,
                attribute=request.source.attr,
                system=SYSTEMS[platform],
                store=nix,
                timeout=left(),
                root=root,
                config=request.nixpkgs_config,
            )

    found = for_each(unknown, evaluated)
    with timed(say, stage="realise"):
        lacking = look_up_packages(found, caches, say=say)
        check_buildable(lacking, nix)
        wanted = [package for each in lacking for package in each.packages]
        if wanted:
            count = sum(len(package.outputs) for package in wanted)
            with timed(say, f"realised {count} output{'s' * (count != 1)}"):
                realise(wanted, store=nix, timeout=left(), roots=roots, on_progress=_Narrator(say))
    built = {platform: [_built(package) for package in found[platform]] for platform in unknown}
    return BuildOutputs(packages={**known, **built}, source_time=source.time)


def _count(packages: Sequence[str]) -> str:
    return "1 package" if len(packages) == 1 else f"{len(packages)} packages"


def _built(package: EvaluatedPackage) -> BuiltPackage:
    return BuiltPackage(attribute=package.attribute, outputs=dict(package.outputs))


def _known(
    request: BuildRequest, caches: Substituters | None
) -> dict[Platform, list[BuiltPackage]]:
    """What packages were evaluated to before, by platform, if nothing needs its derivation."""
    if request.known is None or caches is None:
        return {}
    found = {}
    for platform in request.platforms:
        packages = request.known.packages.get(platform, [])
        if [package.attribute for package in packages] != request.packages:
            continue
        paths = {path for package in packages for path in package.outputs.values()}
        if not look_up(paths, caches)[1]:
            found[platform] = packages
    return found


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
