"""`niximage lock`: moving sources in files become commits, which CI can check."""

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

from niximage.api.build import PinnedSource, input_hash
from niximage.api.image import NixImage
from niximage.api.source import GitRef, NixpkgsSource, Source
from niximage.builder.local import build_image
from niximage.builder.local_build import LocalBuild
from niximage.cli.cluster.connect import in_cluster
from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.options import Where
from niximage.cli.local.build import opened
from niximage.cli.local.locked_file import ImageInFile, Lock, Moving, images_in, lock_text
from niximage.cli.local.options import Surroundings
from niximage.cli.local.progress import watching
from niximage.cli.local.wanted import RESOLVE_TIMEOUT, source_credentials, with_base
from niximage.errors import Reason, Terminal
from niximage.nix.nar_hash import nar_hash
from niximage.source.fetch import fetch
from niximage.source.resolve import resolve, wanted

FETCH_TIMEOUT: Final = 1800.0  # seconds for all files of a source
FILE_LIMIT: Final = 1 << 20
_FLUX: Final = "takes what Flux fetched: its sourceRef cannot be locked, only that object"


@dataclass(frozen=True, slots=True)
class How:
    """What to lock.

    Attributes:
        update: whether also what was locked before.
        check: whether only to look.
        nar_hash: whether nixpkgs gets its hash, too.
        digest: where an expected digest comes from: "build", "cluster" or "" for none.
    """

    update: bool
    check: bool
    nar_hash: bool
    digest: str


def run(files: list[Path], around: Surroundings, where: Where, *, how: How, bucket: str) -> None:
    """Lock the NixImages of files, or see that they are.

    Args:
        files: YAML.
        around: where sources and store paths come from.
        where: the cluster that digests may come from.
        how: what to lock.
        bucket: where images are built to; "" for the one in the user's cache.

    Raises:
        Terminal: a file is not valid, or --check finds something to lock.
        Retryable: a source cannot be reached now.
    """
    open_ = 0
    for file in files:
        text = _read(file)
        for number in range(len(images_in(text, str(file)))):
            # Each edit moves the places of what comes after it: look again.
            image = images_in(text, str(file))[number]
            if how.check:
                open_ += _checked(file, image, around, how)
                continue
            locked = _locked(text, number, around, where, how=how, bucket=bucket)
            if locked != text:
                _write(file, locked)
                text = locked
            elif image.image.spec.source.source_ref is not None:
                typer.echo(f"{file}: {image.name} {_FLUX}", err=True)
            else:
                typer.echo(f"{file}: {image.name} is locked")
    if open_:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{open_} NixImage{'s are' if open_ > 1 else ' is'} not locked, or not up to date",
            hint="Run `niximage lock` with the same options but --check, and commit what it writes",
        )


def _checked(file: Path, image: ImageInFile, around: Surroundings, how: How) -> bool:
    """Whether something would have to change, and say what."""
    nixpkgs = image.image.spec.source.nixpkgs
    problem = ""
    if image.image.spec.source.source_ref is not None:
        problem = _FLUX
    elif not image.is_locked:
        assert image.follows is not None
        problem = f"follows the {image.follows.kind} {image.follows.name}"
    elif how.nar_hash and nixpkgs is not None and nixpkgs.nar_hash is None:
        problem = "has no narHash"
    elif how.digest and image.image.spec.output.expected_digest is None:
        problem = "has no expectedDigest"
    elif how.update and image.follows is not None:
        newer = _pinned(image, around).revision
        if newer != _revision(image.image.spec.source):
            problem = f"is behind {image.follows.kind} {image.follows.name}, which is at {newer}"
    if problem:
        typer.echo(f"{file}: {image.name} {problem}", err=True)
    return bool(problem)


def _locked(
    text: str, number: int, around: Surroundings, where: Where, *, how: How, bucket: str
) -> str:
    """The text with one of its images locked, as far as that is asked for."""
    image = images_in(text, "the file")[number]
    spec = image.image.spec
    if spec.source.nixpkgs is None and spec.source.git is None:
        return text
    moves = not image.is_locked or (how.update and image.follows is not None)
    pinned = _pinned(image, around) if moves else None
    before = _revision(spec.source)
    revision = pinned.revision if pinned is not None and pinned.revision != before else None
    found = None
    nixpkgs = spec.source.nixpkgs
    if how.nar_hash and nixpkgs is not None and (revision or nixpkgs.nar_hash is None):
        found = _nar_hash(image, revision or before, around)
    lock = Lock(revision=revision, nar_hash=found)
    changed = lock_text(text, image, lock)
    if revision is not None:
        follows = image.follows or Moving("", "")
        typer.echo(f"{image.name}: {follows.kind} {follows.name} is at {revision}")
    if not how.digest:
        if revision is not None and spec.output.expected_digest is not None:
            words = "its expectedDigest is of the revision before: set it anew with --digest"
            typer.echo(f"{image.name}: {words}", err=True)
        return changed
    again = images_in(changed, "the locked file")[number]
    digest = _digest(again.image, around, where, how=how, bucket=bucket)
    if digest != spec.output.expected_digest:
        changed = lock_text(changed, again, Lock(digest=digest))
        typer.echo(f"{image.name}: expects {digest}")
    return changed


def _pinned(image: ImageInFile, around: Surroundings) -> PinnedSource:
    source = _following(image.image.spec.source, image.follows)
    return asyncio.run(
        resolve(
            source,
            nixpkgs_url=around.nixpkgs_url,
            timeout=RESOLVE_TIMEOUT,
            allow_file=around.allow_file,
            credentials=source_credentials(around, source.secret),
        )
    )


def _following(source: Source, follows: Moving | None) -> Source:
    """The source as it was before it was locked."""
    if follows is None:
        return source
    if source.nixpkgs is not None:
        return Source(nixpkgs=NixpkgsSource(channel=follows.name))
    assert source.git is not None
    ref = GitRef.model_validate({follows.kind: follows.name})
    return Source(git=source.git.model_copy(update={"ref": ref}))


def _revision(source: Source) -> str:
    if source.nixpkgs is not None:
        return source.nixpkgs.revision or ""
    return (source.git.ref.commit if source.git is not None else "") or ""


def _nar_hash(image: ImageInFile, revision: str, around: Surroundings) -> str:
    pinned = PinnedSource(url=around.nixpkgs_url, revision=revision)
    typer.echo(f"{image.name}: fetching {revision} for its hash", err=True)
    with tempfile.TemporaryDirectory(prefix="niximage-") as folder:
        target = Path(folder) / "source"
        fetch(pinned, target, timeout=FETCH_TIMEOUT, allow_file=around.allow_file)
        return nar_hash(target, store=around.nix, timeout=FETCH_TIMEOUT)


def _digest(image: NixImage, around: Surroundings, where: Where, *, how: How, bucket: str) -> str:
    if how.digest == "cluster":
        return _digest_of_cluster(image, around, where)
    image, base = with_base(image, None)
    revision = _revision(image.spec.source)
    source = wanted(image.spec.source, around.nixpkgs_url).pinned(revision)
    build = LocalBuild(
        image=image,
        source=source,
        nix=around.nix,
        base=base,
        allow_file=around.allow_file,
        credentials=source_credentials(around, image.spec.source.secret),
        popularity_url=around.popularity_url,
    )
    with watching() as account, opened(bucket) as store:
        return build_image(build, store, say=account).digest


def _digest_of_cluster(image: NixImage, around: Surroundings, where: Where) -> str:
    """The digest that the cluster has for just these inputs."""
    name = image.metadata.name
    # As `kubectl apply` has it: a file that names no namespace is of the context's.
    own = image.metadata.namespace if "namespace" in image.metadata.model_fields_set else ""
    here = Where(where.namespace or own, where.context, where.kubeconfig)
    status = Facts.of(in_cluster(here, lambda found: found.image(name))).status
    image, base = with_base(image, None)
    source = wanted(image.spec.source, around.nixpkgs_url).pinned(_revision(image.spec.source))
    # A revision is the same source with its hash and without.
    plain = source.model_copy(update={"nar_hash": None})
    same = {input_hash(image, each, base) for each in (source, plain)}
    if status.digest is None or status.artifact is None or status.artifact.input_hash not in same:
        raise Terminal(
            Reason.REFERENCE_NOT_FOUND,
            f"the cluster's {name} is not the image of this file at {source.revision}",
            hint="Apply the file and wait for Ready first, or take --digest build",
        )
    return status.digest


def _read(file: Path) -> str:
    try:
        with file.open("rb") as opened_file:
            data = opened_file.read(FILE_LIMIT + 1)
        if len(data) > FILE_LIMIT:
            raise Terminal(Reason.INVALID_SPEC, f"{file} is larger than {FILE_LIMIT} bytes")
        return data.decode("utf-8")
    except OSError as error:
        raise Terminal(Reason.INVALID_SPEC, f"{file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Terminal(Reason.INVALID_SPEC, f"{file} is not UTF-8: {error}") from None


def _write(file: Path, text: str) -> None:
    """Replace a file's content: half of it is never seen."""
    target = file.resolve()
    try:
        with tempfile.NamedTemporaryFile(
            "wb", dir=target.parent, prefix=f".{target.name}-", delete=False
        ) as new:
            new.write(text.encode())
        try:
            Path(new.name).chmod(target.stat().st_mode & 0o7777)
            Path(new.name).replace(target)
        finally:
            Path(new.name).unlink(missing_ok=True)
    except OSError as error:
        raise Terminal(
            Reason.INVALID_SPEC, f"{file} cannot be written: {error.strerror or error}"
        ) from None
