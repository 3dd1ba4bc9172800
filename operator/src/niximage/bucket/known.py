"""Images that were built before, under whatever name of their namespace.

The input hash says what an image is, not what it is called. So one that the bucket has under
another name needs no build, only links: a few small writes, as at the end of any publish.
"""

from niximage.bucket.images import read_manifest
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
    manifest = read_manifest(store, record.repository, record.digest)
    if manifest is None:
        return None
    publish_manifest(store, repository, manifest, tags=[input_hash])
    return record.model_copy(update={"repository": repository})
