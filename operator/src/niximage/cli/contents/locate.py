"""Which image is meant, and where it is read from."""

import os
import platform as machine
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from niximage.bucket import keys
from niximage.bucket.closures import read_closure
from niximage.bucket.manifest import Manifest, media_type, parse_index, parse_manifest
from niximage.bucket.reader import BucketReader, ImageReader
from niximage.bucket.store import open_store
from niximage.builder.registry import INSECURE, may_be_plain
from niximage.cli.cluster.connect import in_cluster
from niximage.cli.cluster.facts import Facts
from niximage.cli.cluster.options import Where
from niximage.cli.contents.registry import RegistryReader
from niximage.cli.contents.through_cluster import ClusterReader
from niximage.cli.program import program_name
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.closure_document import ClosureDocument
from niximage.image.descriptor import INDEX

_HOST: Final = re.compile(r"([^/]*[.:][^/]*|localhost)/(.+)")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Reference:
    """An image as a user names it.

    Attributes:
        host: its registry; "" where that is not said.
        repository: what it is called there; "" for that of a NixImage.
        name: the NixImage that it is of; "" for a repository.
        tag: "" for none.
        digest: "" for none.
    """

    host: str = ""
    repository: str = ""
    name: str = ""
    tag: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Places:
    """Where images are read from, as options say it; "" for where the NixImage says."""

    registry: str = ""
    bucket: str = ""
    platform: str = ""
    through_cluster: bool = False


@dataclass(frozen=True, slots=True)
class Located:
    """An image, and who reads it.

    Attributes:
        images: who reads it.
        repository: what it is called there.
        digest: of its manifest, for one platform; or of an index.
        content: the bytes of that.
    """

    images: ImageReader
    repository: str
    digest: str
    content: bytes

    @property
    def manifest(self) -> Manifest:
        """What the manifest of one platform says."""
        return parse_manifest(self.content)

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}"

    def closure(self) -> ClosureDocument:
        """What is in it.

        Raises:
            Terminal: nothing is known of that.
            Retryable: the place fails.
        """
        found = read_closure(self.images, self.repository, self.digest)
        if found is None:
            name = self.repository.rpartition("/")[2]
            raise Terminal(
                Reason.REFERENCE_NOT_FOUND,
                f"{self} has no record of its closure",
                hint="Images of earlier versions have none: build it again with "
                f"`{program_name()} reconcile {name} --force`",
            )
        return found


def parse_image(text: str) -> Reference:
    """An image as a user writes it: `NAME`, `NAME@sha256:…`, `[HOST/]NAMESPACE/NAME:TAG`. Pure.

    Raises:
        Terminal: it is none of these.
    """
    rest, at, digest = text.partition("@")
    host, rest = found.groups() if (found := _HOST.fullmatch(rest)) else ("", rest)
    path, _, tag = rest.partition(":")
    good = (
        (not at or keys.is_digest(digest))
        and (":" not in rest or keys.is_tag(tag))
        and (keys.is_repository(path) if "/" in path or host else _NAME.fullmatch(path))
    )
    if not good:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{text[:300]!r} names no image",
            hint="Write the name of a NixImage, with :TAG or @sha256:… for another build of it, "
            "or NAMESPACE/NAME@sha256:…",
        )
    if "/" in path or host:
        return Reference(host, repository=path, tag=tag, digest=digest)
    return Reference(name=path, tag=tag, digest=digest)


@contextmanager
def located(
    where: Where, places: Places, *images: str, whole: bool = False
) -> Iterator[list[Located]]:
    """The images that a user names, open for reading.

    Args:
        where: the cluster that NixImages are in.
        places: where images are read from.
        images: as `parse_image` takes them.
        whole: whether an image for several platforms is wanted as that, unless one is named.

    Raises:
        Terminal: one of them is not there, or is not said whole.
        Retryable: the cluster, the registry or the bucket does not answer.
    """
    wanted = [_of_cluster(where, parse_image(each)) for each in images]
    readers: dict[str, ImageReader] = {}
    with ExitStack() as opened:
        found = []
        for each in wanted:
            url = "" if places.through_cluster else places.bucket or _registry(each, places)
            if url not in readers:
                readers[url] = opened.enter_context(_open(url, where, places))
            image = _find(readers[url], each)
            if places.platform or not whole:
                image = _of_platform(image, places.platform or _own_platform())
            found.append(image)
        yield found


def _open(url: str, where: Where, places: Places) -> AbstractContextManager[ImageReader]:
    if places.through_cluster:
        return ClusterReader(where)
    return _bucket(url) if places.bucket else RegistryReader(url)


@contextmanager
def _bucket(url: str) -> Iterator[ImageReader]:
    store = open_store(url)
    try:
        yield BucketReader(store)
    finally:
        store.close()


def _of_cluster(where: Where, wanted: Reference) -> Reference:
    """An image with its registry and repository, if need be from the status of its NixImage."""
    if not wanted.name:
        return wanted
    image = Facts.of(in_cluster(where, lambda here: here.image(wanted.name)))
    if image.status.image is None:
        raise Terminal(
            Reason.REFERENCE_NOT_FOUND,
            f"{image.name} has no image yet: {image.word[1] or image.word[0]}",
            hint=f"See {program_name()} status {image.name}",
        )
    latest = parse_image(image.status.image)
    same = not wanted.tag and not wanted.digest
    return Reference(
        latest.host,
        latest.repository,
        tag=wanted.tag,
        digest=latest.digest if same else wanted.digest,
    )


def _registry(wanted: Reference, places: Places) -> str:
    """The URL of an image's registry."""
    given = places.registry or wanted.host
    if not given:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"where is {wanted.repository}?",
            hint="Write HOST/NAMESPACE/NAME@sha256:…, or add --registry or --bucket",
        )
    if given.startswith(("https://", "http://")):
        return given
    plain = may_be_plain(f"{given}/x", os.environ.get(INSECURE, ""))
    return f"{'http' if plain else 'https'}://{given}"


def _find(images: ImageReader, wanted: Reference) -> Located:
    """The image, its manifest or index read."""
    digest = wanted.digest or images.tag(wanted.repository, wanted.tag or "latest")
    content = images.manifest(wanted.repository, digest) if digest else None
    if digest is None or content is None:
        name = f"@{wanted.digest}" if wanted.digest else f":{wanted.tag or 'latest'}"
        raise Terminal(
            Reason.REFERENCE_NOT_FOUND,
            f"{images.url} has no {wanted.repository}{name}",
            hint="It may have been collected as garbage: see the digests with "
            f"`{program_name()} history`",
        )
    return Located(images, wanted.repository, digest, content)


def _of_platform(image: Located, platform: str) -> Located:
    """The image for a platform, of an index; one that is for one platform is that."""
    if media_type(image.content) != INDEX:
        return image
    digest = choose_platform(image.content, platform)
    content = image.images.manifest(image.repository, digest)
    if content is None:
        raise Retryable(
            Reason.RESULT_INVALID,
            f"{image.images.url} has no {image.repository}@{digest}, which its index names",
            hint="Build the image again",
        )
    return replace(image, digest=digest, content=content)


def choose_platform(index: bytes, platform: str) -> str:
    """The digest of an index's image for a platform, `os/architecture`. Pure.

    Raises:
        Terminal: it has none.
    """
    members = {member.platform: member.descriptor.digest for member in parse_index(index)}
    if platform not in members:
        raise Terminal(
            Reason.REFERENCE_NOT_FOUND,
            f"the image is not for {platform}",
            hint=f"Choose with --platform: {', '.join(sorted(members))}",
        )
    return members[platform]


def _own_platform() -> str:
    own = machine.machine()
    return f"linux/{_MACHINES.get(own, own)}"
