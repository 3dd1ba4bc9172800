"""What is known of images and Jobs, kept up to date by watch events and full lists.

Watches lose deletions when they restart from a list, so a full list now and then replaces
what is here; what an event changed while that list was under way is newer, and wins.
"""

from collections.abc import Iterator
from typing import Final, TypeVar

from niximage.api.build_class import NixBuildClass
from niximage.controller.job_view import JobView
from niximage.controller.stored import CachedImage, Key, StoredImage, Told
from niximage.controller.views import Sharer

REMEMBERED: Final = 10_000  # deleted objects; replies overtake events by seconds, not by more


class Cache:
    """Images by key, Jobs by the key of the image they are labelled with."""

    def __init__(self) -> None:
        self._images: dict[Key, StoredImage] = {}
        self._jobs: dict[Key, dict[str, JobView]] = {}
        self._based: dict[Key, set[Key]] = {}
        self._following: dict[tuple[str, str], set[Key]] = {}
        self._sharing: dict[str, set[Key]] = {}  # by repository
        self._touched: set[tuple[str, Key]] = set()
        # A request's reply may come after the event that its object is gone.
        self._gone: dict[str, None] = {}  # UIDs, the oldest first
        self._classes: dict[str, NixBuildClass] = {}

    def keys(self) -> list[Key]:
        """The keys of all images."""
        return list(self._images)

    def image(self, key: Key) -> CachedImage | None:
        """An image, or None if there is none of that key."""
        found = self._images.get(key)
        return None if found is None else found.open()

    def is_answered(self, key: Key) -> bool:
        """Whether an image's status speaks of its spec as it is now."""
        found = self._images.get(key)
        return found is None or found.answered

    def conditions(self) -> Iterator[Told]:
        """All conditions of all images."""
        return (told for image in self._images.values() for told in image.told)

    def jobs(self, key: Key) -> tuple[JobView, ...]:
        """The Jobs that carry an image's label, by name."""
        return tuple(job for _, job in sorted(self._jobs.get(key, {}).items()))

    def all_jobs(self) -> Iterator[JobView]:
        """All Jobs, of whatever image."""
        return (job for group in self._jobs.values() for job in group.values())

    def base_of(self, key: Key) -> Key | None:
        """The key of the NixImage that an image is based on, if it is."""
        return _base_key(self._images.get(key))

    def based_on(self, key: Key) -> frozenset[Key]:
        """The images that are based on an image, whether or not that is there."""
        return frozenset(self._based.get(key, ()))

    def following(self, namespace: str, flux: str) -> frozenset[Key]:
        """The images whose source is an object of Flux, `KIND/NAME`."""
        return frozenset(self._following.get((namespace, flux), ()))

    def followed(self) -> list[tuple[str, str]]:
        """The objects of Flux that images follow: namespace, and `KIND/NAME`."""
        return list(self._following)

    def sharers(self, key: Key) -> tuple[Sharer, ...]:
        """The other images that publish to the repository of an image."""
        repository = _repository(self._images.get(key))
        others = sorted(self._sharing.get(repository or "", set()) - {key})
        found = (self._images[other].open().image for other in others)
        return tuple(Sharer.of(image) for image in found if image is not None)

    def put_image(self, image: StoredImage | CachedImage) -> bool:
        """Learn of an image from an event or a reply; an older version changes nothing.

        Returns:
            Whether it was news.
        """
        stored = image.stored if isinstance(image, CachedImage) else image
        if stored.uid in self._gone:
            return False
        self._touched.add(("image", stored.key))
        before = self._images.get(stored.key)
        if before is not None and before.version > stored.version:
            return False
        self._set(stored.key, stored)
        return before is None or (before.uid, before.version) != (stored.uid, stored.version)

    def drop_image(self, key: Key, uid: str) -> None:
        """Learn that an image is gone; one of the same name that came after it stays."""
        self._touched.add(("image", key))
        self._bury(uid)
        found = self._images.get(key)
        if found is not None and found.uid == uid:
            self._set(key, None)

    def put_job(self, job: JobView) -> bool:
        """Learn of a Job from an event or a reply; an older version changes nothing.

        Returns:
            Whether it was news.
        """
        if job.uid in self._gone:
            return False
        self._touched.add(("job", (job.namespace, job.name)))
        group = self._jobs.setdefault((job.namespace, job.image), {})
        before = group.get(job.name)
        if before is not None and before.version > job.version:
            return False
        group[job.name] = job
        return before != job

    def drop_job(self, job: JobView) -> Key:
        """Learn that a Job is gone; one of the same name that came after it stays."""
        key = (job.namespace, job.image)
        self._touched.add(("job", (job.namespace, job.name)))
        self._bury(job.uid)
        known = self._jobs.get(key, {})
        if (found := known.get(job.name)) is not None and found.uid == job.uid:
            del known[job.name]
        if not known:
            self._jobs.pop(key, None)
        return key

    def classes(self) -> tuple[NixBuildClass, ...]:
        """All build classes."""
        return tuple(self._classes.values())

    def put_class(self, build_class: NixBuildClass) -> list[Key]:
        """Learn of a class; returns the keys of the images that it may concern."""
        name = build_class.metadata.name
        self._touched.add(("class", ("", name)))
        before = self._classes.get(name)
        self._classes[name] = build_class
        return [] if before == build_class else self._of_class(name)

    def drop_class(self, name: str) -> list[Key]:
        """Learn that a class is gone; returns the keys of the images that it may concern."""
        self._touched.add(("class", ("", name)))
        self._classes.pop(name, None)
        return self._of_class(name)

    def _of_class(self, name: str) -> list[Key]:
        """The images that name a class, and those that name none: it may be their default."""
        return [key for key, found in self._images.items() if found.class_name in {"", name}]

    def begin_list(self) -> None:
        """A full list is about to be asked for: events from now on are newer than it."""
        self._touched.clear()

    def finish_list(
        self, images: list[StoredImage], jobs: list[JobView], classes: list[NixBuildClass]
    ) -> set[Key]:
        """Replace what is known by a full list; returns the keys to look at."""
        kept_classes = {
            name: known
            for name, known in self._classes.items()
            if ("class", ("", name)) in self._touched
        }
        self._classes = kept_classes | {
            each.metadata.name: each
            for each in classes
            if ("class", ("", each.metadata.name)) not in self._touched
        }
        listed = {image.key: image for image in images}
        changed = set(listed) | set(self._images)
        for key in changed:
            if ("image", key) in self._touched:
                continue
            self._set(key, listed.get(key))
        kept = [
            job
            for group in self._jobs.values()
            for job in group.values()
            if ("job", (job.namespace, job.name)) in self._touched
        ]
        fresh = [j for j in jobs if ("job", (j.namespace, j.name)) not in self._touched]
        self._jobs = {}
        for job in (*fresh, *kept):
            self._jobs.setdefault((job.namespace, job.image), {})[job.name] = job
        return changed | set(self._jobs)

    def _bury(self, uid: str) -> None:
        """Remember that an object is gone, and forget the one that went first."""
        self._gone[uid] = None
        if len(self._gone) > REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def _set(self, key: Key, image: StoredImage | None) -> None:
        """Keep or forget an image, and with it what it is based on, follows, and where it goes."""
        known = self._images.get(key)
        _move(self._based, key, _base_key(known), _base_key(image))
        _move(self._following, key, _followed(known), _followed(image))
        _move(self._sharing, key, _repository(known), _repository(image))
        if image is None:
            self._images.pop(key, None)
        else:
            self._images[key] = image


_Group = TypeVar("_Group")


def _move(index: dict[_Group, set[Key]], key: Key, old: _Group | None, new: _Group | None) -> None:
    """Take an image from one group to another, and forget the one that is empty then."""
    if old is not None and old != new:
        index[old].discard(key)
        if not index[old]:
            del index[old]
    if new is not None:
        index.setdefault(new, set()).add(key)


def _repository(image: StoredImage | None) -> str | None:
    """The repository that an image publishes to."""
    return None if image is None else image.repository


def _base_key(image: StoredImage | None) -> Key | None:
    """The key of the NixImage that an image is based on, if it is."""
    return (image.key[0], image.base) if image is not None and image.base else None


def _followed(image: StoredImage | None) -> tuple[str, str] | None:
    """Namespace, and kind with name, of the object of Flux that an image's source is, if one."""
    return (image.key[0], image.follows) if image is not None and image.follows else None
