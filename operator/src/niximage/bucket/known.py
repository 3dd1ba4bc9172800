"""Images that were built before, under whatever name of their namespace.

The input hash says what an image is, not what it is called. So one that the bucket has under
another name needs no build, only links: a few small writes, as at the end of any publish.
"""

from niximage.bucket.closures import carry_closure
from niximage.bucket.images import read_manifest
from niximage.bucket.manifest import parse_references
from niximage.bucket.publish import publish_manifest
from niximage.bucket.records import BuildRecord, find_build
from niximage.bucket.store import ObjectStore


def find_image(
    store: ObjectStore, namespace: str, repository: str, input_hash: str
) -> BuildRecord | None:
    """The image of these inputs, published under a name: the whole of it was seen to be there.

    Args:
        store: the bucket; it is written to where the image has only other names yet.
        namespace: whose builds to believe.
        repository: the name that it is to have, of the same namespace.
        input_hash: what it is made from.

    Raises:
        Retryable: the store fails.
    """
    record = find_build(store, namespace, input_hash)
    if record is None or record.repository == repository:
        return record
    if not _link(store, record, repository, tag=input_hash):
        return None
    return record.model_copy(update={"repository": repository})


def _link(store: ObjectStore, record: BuildRecord, repository: str, *, tag: str) -> bool:
    """Publish an image under a further name, the members of an index before it."""
    content = read_manifest(store, record.repository, record.digest)
    if content is None:
        return False
    for member in parse_references(content).manifests:
        below = read_manifest(store, record.repository, member.digest)
        if below is None:
            return False
        publish_manifest(store, repository, below)
        carry_closure(store, record.repository, member.digest, to=repository)
    publish_manifest(store, repository, content, tags=[tag])
    carry_closure(store, record.repository, record.digest, to=repository)
    return True
