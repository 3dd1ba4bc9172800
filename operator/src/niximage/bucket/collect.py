"""Garbage collection: list, mark, sweep. Safe beside builds, pulls and other collections.

It may die anywhere, and run again at any time. What is deleted was neither written nor touched
since it was listed, which is what protects whoever uses it meanwhile (`niximage.bucket.hold`).
"""

import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pydantic

from niximage.bucket import hold, keys
from niximage.bucket.contents import CONTENTS_LIMIT, ContentsRecord
from niximage.bucket.images import read_link, read_references
from niximage.bucket.layout import In, Listing, contents_digest, read_listing
from niximage.bucket.manifest import References
from niximage.bucket.records import RECORD_LIMIT, BuildRecord, LayerRecord
from niximage.bucket.store import ObjectStat, ObjectStore
from niximage.bucket.sweep import MIN_GRACE, Doomed, Facts, blobs_of, cutoff, forsaken, mark, plan
from niximage.bucket.threads import in_parallel
from niximage.errors import Reason, Retryable, Terminal

EVALUATIONS_KEPT: Final = 30 * 24 * 3600.0  # seconds: they are small, and name no blob
BATCH: Final = 512  # objects that are handed to the threads at a time

Progress = Callable[[str, int, int | None], None]
"""Takes what is being done, how much of it is, and of how much, where that is known."""


@dataclass(slots=True)
class Freed:
    """What was, or would be, deleted."""

    tags: int = 0
    manifests: int = 0
    links: int = 0
    records: int = 0
    blobs: int = 0
    bytes: int = 0

    def add(self, doomed: Doomed) -> None:
        """Count one object."""
        field_ = f"{doomed.kind}s"
        setattr(self, field_, getattr(self, field_) + 1)
        if doomed.kind == "blob":
            self.bytes += doomed.object.size


@dataclass(slots=True)
class Collection:
    """What a garbage collection came to.

    Attributes:
        dry_run: whether nothing was deleted.
        objects: how many the bucket had.
        cutoff: seconds since 1970: nothing younger was deleted.
        repositories: what went, by repository; "" for what belongs to none.
        kept_images: manifests and indexes that live.
        kept_blobs: blobs that stay.
        kept_bytes: their bytes.
        spared: objects that were used again before they could be deleted.
        damaged: live manifests and links that cannot be read, up to a hundred.
        seconds: how long it took.
    """

    dry_run: bool
    objects: int = 0
    cutoff: float = 0.0
    repositories: dict[str, Freed] = field(default_factory=lambda: defaultdict(Freed))
    kept_images: int = 0
    kept_blobs: int = 0
    kept_bytes: int = 0
    spared: int = 0
    damaged: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def total(self) -> Freed:
        """What went altogether."""
        total: Counter[str] = Counter()
        for freed in self.repositories.values():
            total.update({name: getattr(freed, name) for name in Freed.__slots__})
        return Freed(**total)


def collect(
    store: ObjectStore,
    roots: Iterable[str],
    *,
    grace: float,
    logs: Iterable[str] = (),
    dry_run: bool = False,
    progress: Progress = lambda _what, _done, _of: None,
) -> Collection:
    """Delete what no image, tag or running build needs.

    Args:
        store: the bucket.
        roots: the digests of images that must stay: those that statuses name.
        grace: seconds for which what is not needed stays, at least an hour.
        logs: the keys of logs of builds that must stay: those that statuses name.
        dry_run: only tell.
        progress: takes progress.

    Raises:
        Terminal: the grace is too short to be safe, or a root is no digest.
        Retryable: the store fails; what was deleted by then was garbage.
    """
    named = frozenset(roots)
    _check(named, grace)
    started, now = time.monotonic(), hold.now()
    # First of all: a build that ends while we list has its lease here, or its image there.
    leases = read_listing(store.list(keys.LEASES)).leases
    listing = read_listing(_listed(store, progress))
    result = Collection(dry_run, objects=listing.count)
    result.cutoff = cutoff(leases, now=now, grace=grace)
    facts = Facts(
        listing,
        targets=_targets(store, listing, result.damaged, progress),
        roots=named,
        cutoff=result.cutoff,
    )
    facts = _with_references(store, facts, result.damaged, progress)
    facts = _read_more(store, facts, forsaken(facts), [], progress)
    dead, configs = _dead_records(store, facts, frozenset(logs), progress)
    todo = plan(facts, dead, configs, renew_before=now - grace / 2)
    result.kept_images = todo.kept_images
    result.kept_blobs = todo.kept_blobs
    result.kept_bytes = todo.kept_bytes
    if not dry_run:
        for _ in _batches(store.touch, todo.touch, "renewing images", progress):
            pass
    for phase in todo.sweep:
        _sweep(store, phase, result, progress)
    result.seconds = time.monotonic() - started
    return result


def _check(roots: frozenset[str], grace: float) -> None:
    if not grace >= MIN_GRACE:
        raise Terminal(
            Reason.INVALID_SPEC,
            f"a grace of {grace:g} s is too short: running builds could lose what they use",
            hint=f"Give at least {MIN_GRACE / 3600:g}h",
        )
    for root in roots:
        if not keys.is_digest(root):
            raise Terminal(Reason.INVALID_SPEC, f"{root[:100]!r} is no digest of an image")


def _listed(store: ObjectStore, progress: Progress) -> Iterator[ObjectStat]:
    both = itertools.chain(store.list(keys.ROOT), store.list(keys.OWN))
    for number, found in enumerate(both):
        if number % 1000 == 0:
            progress("listing objects", number, None)
        yield found


def _targets(
    store: ObjectStore, listing: Listing, damaged: list[str], progress: Progress
) -> dict[In, str]:
    """What each tag names."""

    def look(tag: In) -> tuple[In, str | None]:
        found = listing.tags[tag]
        try:
            return tag, read_link(store, found.key)
        except Retryable as error:
            if error.reason is not Reason.RESULT_INVALID:
                raise
            _note(damaged, found.key)
            return tag, None

    read = _batches(look, sorted(listing.tags), "reading tags", progress)
    return {tag: digest for tag, digest in read if digest is not None}


def _with_references(
    store: ObjectStore, facts: Facts, damaged: list[str], progress: Progress
) -> Facts:
    """The facts with every live manifest read: images, then members of indexes, and so on."""
    while unread := mark(facts).unread:
        facts = _read_more(store, facts, unread, damaged, progress)
    return facts


def _read_more(
    store: ObjectStore,
    facts: Facts,
    digests: Iterable[str],
    damaged: list[str],
    progress: Progress,
) -> Facts:
    def look(digest: str) -> tuple[str, References | None]:
        return digest, read_references(store, digest)

    read = dict(_batches(look, sorted(digests), "reading manifests", progress))
    for digest, references in read.items():
        if references is None:
            _note(damaged, digest)
    return replace(facts, references={**facts.references, **read})


def _dead_records(
    store: ObjectStore, facts: Facts, logs: frozenset[str], progress: Progress
) -> tuple[list[ObjectStat], set[str]]:
    """Old records that name nothing that lives; those that cannot be read name nothing.

    The names in a layer go once its record has gone, evaluations when nobody needed them long.

    A base from elsewhere has no manifest here: while its layers live in images that are based
    on it, so does its record, and its config.

    Returns:
        The records, and the configs of such bases.
    """
    marks = mark(facts)
    blobs, _ = blobs_of(facts, marks)
    digests = {digest for _, digest in marks.images}
    configs: set[str] = set()
    layers = {found.key for found in facts.listing.records["layers"]}

    def lives(kind: str, found: ObjectStat) -> bool:
        try:
            match kind:
                case "layers":
                    layer = _record(store, found, LayerRecord, RECORD_LIMIT)
                    return layer is not None and layer.digest in blobs
                case "builds":
                    build = _record(store, found, BuildRecord, RECORD_LIMIT)
                    return build is not None and (build.repository, build.digest) in marks.images
                case "names":
                    return keys.names_layer(found.key) in layers
                case "logs":
                    return found.key in logs
                case "evaluations":
                    return found.time >= facts.cutoff - EVALUATIONS_KEPT
                case _ if contents_digest(found.key) in digests:
                    return True
                case _:
                    contents = _record(store, found, ContentsRecord, CONTENTS_LIMIT)
                    if contents is None or not {x.digest for x in contents.layers} <= blobs:
                        return False
                    configs.add(contents.config)
                    return True
        except pydantic.ValidationError:
            return False

    old = [
        (kind, found)
        for kind, records in facts.listing.records.items()
        for found in records
        if found.time < facts.cutoff
    ]
    alive = _batches(lambda each: lives(*each), old, "reading records", progress)
    return [found for (_, found), stays in zip(old, alive, strict=True) if not stays], configs


def _record(store: ObjectStore, found: ObjectStat, kind: type[Any], limit: int) -> Any:
    content = store.read(found.key, limit=max(found.size, 1)) if found.size <= limit else None
    return None if content is None else kind.model_validate_json(content)


def _sweep(
    store: ObjectStore, phase: tuple[Doomed, ...], result: Collection, progress: Progress
) -> None:
    def delete(doomed: Doomed) -> bool:
        return result.dry_run or store.delete(doomed.object)

    what = f"deleting {phase[0].kind}s" if phase else ""
    for doomed, gone in zip(phase, _batches(delete, phase, what, progress), strict=True):
        if gone:
            result.repositories[doomed.repository].add(doomed)
        else:
            result.spared += 1


def _batches(function: Any, items: Iterable[Any], what: str, progress: Progress) -> Iterator[Any]:
    """The function of every item, in order, many at once; all of a batch before the next."""
    listed = list(items)
    for start in range(0, len(listed), BATCH):
        progress(what, start, len(listed))
        yield from in_parallel(function, listed[start : start + BATCH])


def _note(damaged: list[str], what: str) -> None:
    if len(damaged) < 100 and what not in damaged:  # noqa: PLR2004 (as documented above)
        damaged.append(what)
