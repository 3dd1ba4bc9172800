"""What refers to an image: signatures, SBOMs, provenance, any artifact.

Everything that has an image as its `subject` is listed in one index of the same repository,
under OCI 1.1's fallback tag `sha256-<hex of the subject>`. It is the only record: the gateway
answers the referrers API from it, and clients of a stock registry, which has no such API, read
the very same index by its tag. It changes only as it was seen, so that of two writers neither
loses what the other wrote.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from niximage.api.canonical import canonical_json
from niximage.bucket import keys
from niximage.bucket.hold import put
from niximage.bucket.images import read_manifest, resolve_tag
from niximage.bucket.manifest import MANIFEST_LIMIT, References, parse_references, texts
from niximage.bucket.publish import hold_all, publish_manifest
from niximage.bucket.store import ObjectStore
from niximage.errors import Reason, Retryable, Terminal
from niximage.image.descriptor import INDEX, Descriptor

ATTEMPTS: Final = 100  # lost races in a row before it is left to the next try


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that tells something about another.

    Attributes:
        descriptor: its own media type, digest and size.
        artifact_type: what it holds; "" where it does not say.
        annotations: its own.
    """

    descriptor: Descriptor
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, content: bytes, references: References) -> "Referrer":
        """The referrer that a manifest is."""
        return cls(
            Descriptor.of(references.media_type, content),
            references.artifact_type,
            references.annotations,
        )

    def to_json(self) -> dict[str, Any]:
        """The referrer as an index lists it."""
        document = self.descriptor.to_json()
        if self.artifact_type:
            document["artifactType"] = self.artifact_type
        if self.annotations:
            document["annotations"] = dict(self.annotations)
        return document


def list_referrers(store: ObjectStore, repository: str, subject: str) -> list[Referrer]:
    """What refers to a manifest, in the order of digests; none where nothing does.

    Args:
        store: the bucket.
        repository: where both are.
        subject: the digest of what they refer to; it need not be there.

    Raises:
        Terminal: the repository or the digest has no valid name.
        Retryable: the store fails.
    """
    digest = resolve_tag(store, repository, keys.referrers_tag(subject))
    content = None if digest is None else read_manifest(store, repository, digest)
    return [] if content is None else read_referrers(content)


def read_referrers(index: bytes) -> list[Referrer]:
    """The members of an index of referrers, in the order of digests. Pure.

    Raises:
        Retryable: it is no index.
    """
    members = {member.digest: member for member in parse_references(index).manifests}
    listed = {raw["digest"]: raw for raw in json.loads(index).get("manifests", [])}
    return [
        Referrer(
            members[digest],
            _text(listed[digest].get("artifactType")),
            texts(listed[digest].get("annotations")),
        )
        for digest in sorted(members)
    ]


def referrers_index(referrers: list[Referrer]) -> bytes:
    """The index of referrers, one spelling for each set of them. Pure.

    Raises:
        Terminal: there are more than an index holds.
    """
    members = {referrer.descriptor.digest: referrer.to_json() for referrer in referrers}
    content = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [members[digest] for digest in sorted(members)],
        }
    )
    if len(content) > MANIFEST_LIMIT:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"{len(members)} artifacts refer to one image: their index has {len(content)} bytes, "
            f"and {MANIFEST_LIMIT} are allowed",
            hint="Attach fewer artifacts to it, or with shorter annotations",
        )
    return content


def add_referrers(
    store: ObjectStore, repository: str, manifests: Sequence[bytes]
) -> list[Referrer]:
    """Publish manifests that have the same subject, and list them with it, all at once.

    Their blobs must be there. Safe to repeat: what is there already is not written again.

    Args:
        store: the bucket.
        repository: where the subject is.
        manifests: OCI image manifests or indexes with one `subject`.

    Raises:
        Terminal: one has no subject, or the subject has too many referrers.
        Retryable: one is no manifest, a blob is missing, or the store fails.
    """
    added = []
    subjects = set()
    for manifest in manifests:
        references = parse_references(manifest)
        if references.subject is None:
            raise Terminal(
                Reason.INVALID_SPEC,
                "the manifest refers to no other: it has no subject",
                hint="Publish it under a tag instead",
            )
        publish_manifest(store, repository, manifest)
        subjects.add(references.subject.digest)
        added.append(Referrer.of(manifest, references))
    [subject] = subjects
    _list(store, repository, subject, added)
    return added


def _list(store: ObjectStore, repository: str, subject: str, added: Sequence[Referrer]) -> None:
    """Put referrers into the index of their subject's."""
    tag = keys.referrers_tag(subject)
    current = keys.tag_link(repository, tag)
    for _ in range(ATTEMPTS):
        seen = store.stat(current)
        listed = list_referrers(store, repository, subject)
        if all(each in listed for each in added):
            return
        others = [each for each in listed if _other(store, repository, each, added)]
        index = publish_manifest(store, repository, referrers_index([*others, *added]))
        put(store, keys.tag_index_link(repository, tag, index.digest), index.digest.encode())
        content = index.digest.encode("ascii")
        if seen is None:
            if store.create(current, content) is not None:
                return
        elif store.replace(current, content, seen=seen):
            return
    raise Retryable(
        Reason.BUCKET_UNAVAILABLE,
        f"the referrers of {subject} in {repository} keep being changed",
        hint="Attach to one image one by one",
    )


def _other(store: ObjectStore, repository: str, each: Referrer, added: Sequence[Referrer]) -> bool:
    """Whether what was listed stays listed: it is another, and was not deleted meanwhile."""
    if each.descriptor.digest in {new.descriptor.digest for new in added}:
        return False
    return not hold_all(store, repository, References(INDEX, manifests=(each.descriptor,)))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
