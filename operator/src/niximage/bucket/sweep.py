"""What garbage collection keeps and what it deletes. Pure.

Mark: an image is alive if a status names it, a tag does, or its revision link is young. With
it live the members of an index, what refers to it, and all their blobs and links. A build's
own tag (its input hash) and the tags of referrers keep nothing alive: they go with what they
name.

Sweep: what is not alive and older than the cutoff, in the reverse of the order in which it was
written: tags, revision links, records, layer links, blobs. So whoever reads, and a collection
that dies halfway, never leaves an image that can be seen and lacks something.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from niximage.bucket.hold import FRESH
from niximage.bucket.layout import In, Listing, is_build_tag, subject_of
from niximage.bucket.leases import oldest_lease
from niximage.bucket.manifest import References
from niximage.bucket.store import ObjectStat

SKEW: Final = 600.0  # seconds by which clocks may differ
MIN_GRACE: Final = 3600.0  # seconds: more than FRESH and the clocks' difference together


@dataclass(frozen=True, slots=True)
class Marks:
    """What is alive.

    Attributes:
        images: manifests and indexes, by repository and digest.
        unread: those whose manifests must be read before the rest can be told.
    """

    images: frozenset[In]
    unread: frozenset[str]


@dataclass(frozen=True, slots=True)
class Doomed:
    """An object to delete.

    Attributes:
        object: as it was listed: deleted only if it is still so.
        kind: "tag", "manifest", "record", "link" or "blob".
        repository: whose it is; "" for what belongs to none.
    """

    object: ObjectStat
    kind: str
    repository: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order.

    Attributes:
        touch: revision links of images that live: so that an image's grace begins when it
            was last seen alive, not when it was written.
        sweep: phases; each is to be done before the next begins.
        kept_images: how many manifests and indexes live.
        kept_blobs: how many blobs stay.
        kept_bytes: their bytes.
    """

    touch: tuple[ObjectStat, ...]
    sweep: tuple[tuple[Doomed, ...], ...]
    kept_images: int
    kept_blobs: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read of a bucket.

    Attributes:
        listing: its objects.
        targets: what tags name, by repository and tag.
        references: what manifests name, by digest; None for those that cannot be read.
        roots: digests that live whatever the bucket says: those in statuses.
        cutoff: seconds since 1970; nothing written or touched since is swept.
    """

    listing: Listing
    targets: Mapping[In, str]
    references: Mapping[str, References | None] = field(default_factory=dict)
    roots: frozenset[str] = frozenset()
    cutoff: float = 0.0


def cutoff(leases: Iterable[ObjectStat], *, now: float, grace: float) -> float:
    """The time before which things may be swept: the grace, and what running builds use.

    Args:
        leases: of builds, listed before anything else: one that ends later still counts.
        now: seconds since 1970, not later than that listing.
        grace: seconds.
    """
    began = oldest_lease(leases, now=now)
    return now - grace if began is None else min(now - grace, began - FRESH - SKEW)


def mark(facts: Facts, *, young: bool = True) -> Marks:
    """What is alive, as far as the manifests that were read can tell.

    Args:
        facts: what was read.
        young: whether what is young lives, too.
    """
    tags_of_subject: dict[In, list[str]] = {}
    for (repository, tag), digest in facts.targets.items():
        if (subject := subject_of(tag)) is not None:
            tags_of_subject.setdefault((repository, subject), []).append(digest)
    alive: set[In] = set()
    unread: set[str] = set()
    frontier = list(_roots(facts, young=young))
    while frontier:
        image = frontier.pop()
        if image in alive:
            continue
        alive.add(image)
        repository, digest = image
        frontier += [(repository, each) for each in tags_of_subject.get(image, ())]
        if digest not in facts.references:
            unread.add(digest)
        elif (references := facts.references[digest]) is not None:
            frontier += [(repository, member.digest) for member in references.manifests]
    return Marks(frozenset(alive), frozenset(unread))


def blobs_of(facts: Facts, marks: Marks) -> tuple[set[str], set[In]]:
    """The blobs that live images need, manifests included, and their layer links."""
    blobs = {digest for _, digest in marks.images}
    links: set[In] = set()
    for repository, digest in marks.images:
        if (references := facts.references.get(digest)) is not None:
            named = [blob.digest for blob in references.blobs]
            blobs.update(named)
            links.update((repository, each) for each in named)
    return blobs, links


def forsaken(facts: Facts) -> frozenset[str]:
    """The digests of the images that go: they are read, too, so that indexes go first."""
    alive = mark(facts).images
    return frozenset(
        image[1]
        for image, found in facts.listing.revisions.items()
        if found.time < facts.cutoff and image not in alive
    )


def levels(images: Mapping[str, References | None]) -> list[list[str]]:
    """The digests of images in the order in which they go: indexes before their members."""
    members = {
        digest: {member.digest for member in references.manifests} & images.keys()
        for digest, references in images.items()
        if references is not None and references.manifests
    }
    rank = dict.fromkeys(images, 0)
    # Digests allow no circles, so this ends after as many rounds as indexes are nested.
    changed = True
    while changed:
        changed = False
        for index, below in members.items():
            for digest in below:
                if rank[digest] <= rank[index]:
                    rank[digest], changed = rank[index] + 1, True
    return [[digest for digest in images if rank[digest] == n] for n in sorted({*rank.values()})]


def plan(
    facts: Facts,
    dead_records: Iterable[ObjectStat] = (),
    more_blobs: Iterable[str] = (),
    *,
    renew_before: float = 0.0,
) -> Plan:
    """What to touch and what to delete.

    Args:
        facts: what was read; every live manifest among it.
        dead_records: records that name nothing that lives.
        more_blobs: digests of blobs that live, too.
        renew_before: live images seen last before this time are touched.
    """
    listing, marks = facts.listing, mark(facts)
    assert not marks.unread
    blobs, links = blobs_of(facts, marks)
    blobs.update(more_blobs)
    seen = mark(facts, young=False).images

    def old(found: ObjectStat) -> bool:
        return found.time < facts.cutoff

    tags = [
        Doomed(found, "tag", repository)
        for (repository, tag), found in listing.tags.items()
        if old(found) and not _names_image(facts, marks, repository, tag)
    ]
    history = [
        Doomed(found, "record", repository)
        for (repository, _, digest), found in listing.tag_history.items()
        if old(found) and (repository, digest) not in marks.images
    ]
    tag_records = [
        Doomed(found, "record", repository)
        for (repository, tag), found in listing.tag_records.items()
        if old(found) and (repository, tag) not in listing.tags
    ]
    # No lease that counts is that old.
    leases = [Doomed(found, "record", "") for found in listing.leases if old(found)]
    revisions: dict[str, list[Doomed]] = {}
    for (repository, digest), found in listing.revisions.items():
        if old(found) and (repository, digest) not in marks.images:
            revisions.setdefault(digest, []).append(Doomed(found, "manifest", repository))
    by_level = [
        [doomed for digest in level for doomed in revisions[digest]]
        for level in levels({digest: facts.references.get(digest) for digest in revisions})
    ]
    records = [Doomed(found, "record", "") for found in dead_records if old(found)]
    layers = [
        Doomed(found, "link", link[0])
        for link, found in listing.layers.items()
        if old(found) and link not in links
    ]
    owner = _owners(listing)
    doomed_blobs = [
        Doomed(found, "blob", owner.get(digest, ""))
        for digest, found in listing.blobs.items()
        if old(found) and digest not in blobs
    ]
    gone = {doomed.object.key for doomed in doomed_blobs}
    kept = [found for found in listing.blobs.values() if found.key not in gone]
    return Plan(
        touch=tuple(
            listing.revisions[image]
            for image in sorted(seen)
            if image in listing.revisions and listing.revisions[image].time < renew_before
        ),
        sweep=tuple(
            tuple(phase)
            for phase in (
                tags,
                *by_level,
                history + tag_records + leases + records,
                layers,
                doomed_blobs,
            )
        ),
        kept_images=sum(image in listing.revisions for image in marks.images),
        kept_blobs=len(kept),
        kept_bytes=sum(found.size for found in kept),
    )


def _roots(facts: Facts, *, young: bool) -> Iterable[In]:
    for image, found in facts.listing.revisions.items():
        if image[1] in facts.roots or (young and found.time >= facts.cutoff):
            yield image
    for (repository, tag), digest in facts.targets.items():
        recent = young and facts.listing.tags[repository, tag].time >= facts.cutoff
        if recent or _is_root_tag(tag):
            yield repository, digest


def _names_image(facts: Facts, marks: Marks, repository: str, tag: str) -> bool:
    """Whether a tag names an image that lives and is there; one that is damaged may yet."""
    target = facts.targets.get((repository, tag))
    if target is None:
        return _is_root_tag(tag)
    image = (repository, target)
    return image in marks.images and image in facts.listing.revisions


def _is_root_tag(tag: str) -> bool:
    return not is_build_tag(tag) and subject_of(tag) is None


def _owners(listing: Listing) -> dict[str, str]:
    """For each blob one repository that links it: the first by name, so that none counts twice."""
    owners: dict[str, str] = {}
    for repository, digest in sorted((*listing.layers, *listing.revisions)):
        owners.setdefault(digest, repository)
    return owners
