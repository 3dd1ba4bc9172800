"""Images as whoever may pull them sees them: from a bucket here, from a registry elsewhere."""

from collections.abc import Iterator
from typing import Protocol

from niximage.bucket import images, keys, referrers
from niximage.bucket.referrers import Referrer
from niximage.bucket.store import ObjectStore
from niximage.errors import Reason, Retryable
from niximage.image.descriptor import Descriptor, digest_of


class ImageReader(Protocol):
    """Reads images."""

    @property
    def url(self) -> str:
        """What to call the place in messages."""
        ...

    def tag(self, repository: str, tag: str) -> str | None:
        """The digest that a tag names, or None if there is no such tag."""
        ...

    def manifest(self, repository: str, digest: str) -> bytes | None:
        """A manifest's bytes, verified, or None if the repository has none of this digest."""
        ...

    def referrers(self, repository: str, subject: str) -> list[Referrer]:
        """What refers to a manifest, in the order of digests."""
        ...

    def blob(self, repository: str, digest: str) -> Iterator[bytes]:
        """A blob's bytes in pieces; the caller looks whether they are those of the digest.

        Raises:
            Retryable: it is not there, or cannot be read now.
        """
        ...


class BucketReader:
    """Reads the images of a bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    @property
    def url(self) -> str:
        """See `ImageReader`."""
        return self._store.url

    def tag(self, repository: str, tag: str) -> str | None:
        """See `ImageReader`."""
        return images.resolve_tag(self._store, repository, tag)

    def manifest(self, repository: str, digest: str) -> bytes | None:
        """See `ImageReader`."""
        return images.read_manifest(self._store, repository, digest)

    def referrers(self, repository: str, subject: str) -> list[Referrer]:
        """See `ImageReader`."""
        return referrers.list_referrers(self._store, repository, subject)

    def blob(self, repository: str, digest: str) -> Iterator[bytes]:  # noqa: ARG002 (as a registry)
        """See `ImageReader`."""
        return self._store.stream(keys.blob(digest))


def read_blob(images: ImageReader, repository: str, blob: Descriptor) -> bytes:
    """The whole of a small blob, verified.

    Raises:
        Retryable: it is not there as it was, or cannot be read now.
    """
    content = bytearray()
    for piece in images.blob(repository, blob.digest):
        content += piece
        if len(content) > blob.size:
            break
    if digest_of(content) != blob.digest:
        raise lacking(images, blob.digest)
    return bytes(content)


def lacking(images: ImageReader, digest: str) -> Retryable:
    """The error of a part of an image that is not there, or is not what its digest says."""
    return Retryable(
        Reason.RESULT_INVALID,
        f"{images.url} does not hold {digest} as it was",
        hint="Build it again: only what is missing is made",
    )
