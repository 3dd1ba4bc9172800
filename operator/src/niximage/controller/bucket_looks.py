"""What is asked of the bucket: each call in a thread, and waited for no longer than a while."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

from niximage.api.build import BuildRequest
from niximage.bucket.evaluations import find_evaluation
from niximage.bucket.images import read_manifest
from niximage.bucket.known import find_image
from niximage.bucket.publish import publish_manifest
from niximage.bucket.remove import Removed, remove_repository, remove_tags
from niximage.bucket.store import ObjectStore
from niximage.bucket.tags import move_tag
from niximage.controller.steps import MoveTags, RemoveRepository
from niximage.controller.views import Absent, Published
from niximage.errors import NixImageError, Reason, Retryable

TIMEOUT: Final = 60.0  # seconds of one look into the bucket
REMOVE_TIMEOUT: Final = 240.0  # seconds of one attempt to remove a repository

_Found = TypeVar("_Found")


class BucketLooks:
    """The bucket; an error is an answer, too.

    Attributes:
        store: its objects.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    async def published(
        self, namespace: str, repository: str, input_hash: str
    ) -> Published | Absent | NixImageError:
        """The image of some inputs, if the whole of it is there."""
        return await self._wait_for(
            "has not answered",
            lambda: find_published(self.store, namespace, repository, input_hash),
        )

    async def known(self, request: BuildRequest) -> BuildRequest:
        """The request, perhaps with what its packages were evaluated to before."""
        found = await self._wait_for(
            "has not answered", lambda: with_evaluation(self.store, request)
        )
        # Without it the build evaluates, and tells of the bucket if it must.
        return request if isinstance(found, NixImageError) else found

    async def move_tags(self, move: MoveTags, repository: str) -> MoveTags | NixImageError:
        """Have tags name an image."""
        # A call that is given up goes on in its thread, and one of a replica that lost its Lease
        # may come late: neither moves a tag back that was moved since.
        asked_at = time.time_ns()
        failed = await self._wait_for(
            "has not taken the tags", lambda: move_tags(self.store, repository, move, asked_at)
        )
        return failed or move

    async def remove(self, look: RemoveRepository) -> Removed | NixImageError:
        """Remove a repository, or some of its tags."""
        return await self._wait_for(
            "has not removed all of it", lambda: remove(self.store, look), REMOVE_TIMEOUT
        )

    async def _wait_for(
        self, failing: str, call: Callable[[], _Found], seconds: float = TIMEOUT
    ) -> _Found | NixImageError:
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.to_thread(call)
        except TimeoutError:
            words = f"{self.store.url} {failing} within {seconds:.0f} s"
            return Retryable(Reason.BUCKET_UNAVAILABLE, words)
        except NixImageError as error:
            return error


def remove(store: ObjectStore, look: RemoveRepository) -> Removed:
    """Remove a repository, or some of its tags.

    Raises:
        NixImageError: the bucket does not answer.
    """
    if look.tags is None:
        return remove_repository(store, look.repository)
    return remove_tags(store, look.repository, look.tags)


def move_tags(store: ObjectStore, repository: str, move: MoveTags, asked_at: int) -> None:
    """Have tags name an image that is published.

    Args:
        store: the bucket.
        repository: `<namespace>/<name>`.
        move: which tags, and the image.
        asked_at: when that was decided, in nanoseconds since 1970.

    Raises:
        NixImageError: it is not there any more, a tag was moved by a later decision, or the
            bucket does not answer.
    """
    manifest = read_manifest(store, repository, move.digest)
    if manifest is None:
        raise Retryable(
            Reason.BUCKET_UNAVAILABLE,
            f"{store.url} holds {repository}@{move.digest} no longer",
            hint="Annotate reconcile.fluxcd.io/forceAt to have it built again",
        )
    publish_manifest(store, repository, manifest)
    for tag in move.tags:
        if not move_tag(store, repository, tag, move.digest, asked_at=asked_at):
            raise Retryable(
                Reason.BUCKET_UNAVAILABLE,
                f"the tag {tag} of {repository} names an image that was asked for later",
                hint="Does another NixImage, or another cluster, have this repository and tag?",
            )


def find_published(
    store: ObjectStore, namespace: str, repository: str, input_hash: str
) -> Published | Absent:
    """Look for the image of some inputs: it counts only if the whole of it is there.

    One that the bucket has under another name of the namespace gets this one too.

    Raises:
        NixImageError: the bucket does not answer.
    """
    record = find_image(store, namespace, repository, input_hash)
    if record is None:
        return Absent.ABSENT
    return Published(
        digest=record.digest,
        layers=record.layers,
        size=record.size,
        reused_layers=record.reused_layers,
        reused_size=record.reused_size,
    )


def with_evaluation(store: ObjectStore, request: BuildRequest) -> BuildRequest:
    """The request with what its packages were evaluated to before, where that is known and fits.

    Raises:
        NixImageError: the bucket does not answer.
    """
    return request.knowing(find_evaluation(store, request))
