"""Whose build may start next: caps on running builds, and fairness between namespaces.

Builds that wait are ordered by urgency first, so that a user who waits is served before a
source that moved; then the namespace with the fewest running builds comes first, then the one
served longest ago, so that no namespace can crowd out another. Who waits long grows in
urgency: nothing waits for ever.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from niximage.api.image import NixImage
from niximage.controller.builds.job import class_label
from niximage.controller.job_view import JobState, JobView
from niximage.controller.settings import Settings
from niximage.controller.steps import TakeTurn, Urgency
from niximage.controller.stored import Key
from niximage.controller.views import Queued, Turn
from niximage.errors import plain_text

SHOWN: Final = 600  # bytes of what keeps another's pod
AGING: Final = 600.0  # seconds of waiting that count as one step of urgency
_NO_CAP: Final = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How many builds may run at once; None is: as many as there may be elsewhere.

    Attributes:
        total: in all.
        namespace: in one namespace.
        of_class: of the build's class.
        class_namespace: of the build's class in one namespace.
    """

    total: int
    namespace: int
    of_class: int | None = None
    class_namespace: int | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """A build that waits for its turn.

    Attributes:
        key: of its image.
        input_hash: what it would build.
        build_class: the name of its class, or "".
        caps: what holds for it.
        urgency: how urgent it was when it began to wait.
        since: when that was, in seconds of the clock; who asks need not say.
    """

    key: Key
    input_hash: str
    build_class: str
    caps: Caps
    urgency: Urgency
    since: float = 0.0

    @property
    def builds(self) -> tuple[str, str]:
        """What is built at most once at a time: namespace and input hash."""
        return self.key[0], self.input_hash


def ask_for(image: NixImage, look: TakeTurn, settings: Settings) -> Ask:
    """The request for a turn, with the caps that hold for the image. Pure.

    Args:
        image: whose build it is.
        look: which inputs, and how urgent.
        settings: the operator's, with what the image's class says.
    """
    build_class = settings.build_class
    caps = Caps(total=settings.max_builds, namespace=settings.max_builds_per_namespace)
    if build_class is not None:
        caps = replace(
            caps,
            of_class=build_class.spec.max_builds,
            class_namespace=build_class.spec.max_builds_per_namespace,
        )
    if image.spec.build.queue_name:
        caps = Caps(total=_NO_CAP, namespace=_NO_CAP)  # Kueue decides when it starts
    return Ask(
        key=(image.metadata.namespace, image.metadata.name),
        input_hash=look.input_hash,
        build_class=class_label(build_class) if build_class is not None else "",
        caps=caps,
        urgency=look.urgency,
    )


class Turns:
    """The builds that wait, and the one rule by which they start. For one event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Nobody waits.

        Args:
            clock: seconds that only grow.
        """
        self._clock = clock
        self._waiting: dict[Key, Ask] = {}
        self._granted: dict[Key, Ask] = {}
        self._asked: set[Key] = set()
        self._served: dict[str, int] = {}  # when a namespace was last served, as a count
        self._count = 0

    def __len__(self) -> int:
        """How many builds wait."""
        return len(self._waiting)

    def take(self, ask: Ask, jobs: Iterable[JobView]) -> Turn | Queued:
        """Whether a build may start now; if not, it waits on.

        Args:
            ask: the build; of one that waits already, its time counts.
            jobs: all build Jobs.
        """
        key = ask.key
        before = self._waiting.get(key)
        if before is None:
            ask = replace(ask, since=self._clock())
        else:
            ask = replace(ask, since=before.since, urgency=min(ask.urgency, before.urgency))
        self._waiting[key] = ask
        self._asked.add(key)
        running = [job for job in jobs if occupies(job)]
        if twin := _twin(ask, running):
            words = f"waiting for {twin.name}, which builds the same inputs"
            return Queued(words, (twin,), twin=True)
        if any(other.builds == ask.builds for other in self._granted.values()):
            return Queued("waiting for a build of the same inputs")
        # First the cheap answer: it is that of nearly all while thousands wait.
        if full := Use.of(running, self._granted.values()).full(ask):
            beside = tuple(job for job in running if job.namespace == key[0])
            return Queued(f"waiting: {full}", beside)
        if key not in self._admitted(running):
            return Queued("waiting: other builds come first")
        del self._waiting[key]
        self._granted[key] = ask
        self._count += 1
        self._served[key[0]] = self._count
        return Turn.GRANTED

    def settle(self, key: Key) -> bool:
        """A pass over an image is over: a turn is used by now, or given back.

        An image that waited and did not ask again needs no build any more.

        Returns:
            Whether it had been given a turn.
        """
        granted = self._granted.pop(key, None) is not None
        if key not in self._asked:
            self._waiting.pop(key, None)
        self._asked.discard(key)
        return granted

    def due(self, jobs: Iterable[JobView]) -> list[Key]:
        """The images that wait and would get their turn now: to be looked at."""
        if not self._waiting:
            return []
        return self._admitted([job for job in jobs if occupies(job)])

    def _admitted(self, running: list[JobView]) -> list[Key]:
        """Who of those that wait may start, beside what runs and what was granted."""
        use = Use.of(running, self._granted.values())
        busy = {(job.namespace, job.input_hash) for job in running}
        now = self._clock()
        waiting = sorted(
            (_aged(ask, now), ask.since, ask.key)
            for ask in self._waiting.values()
            if ask.builds not in busy
        )
        heads: dict[str, list[tuple[int, float, Key]]] = {}
        for entry in waiting:
            heads.setdefault(entry[2][0], []).append(entry)
        for queue in heads.values():
            queue.reverse()  # the first is taken from the end
        admitted: list[Key] = []
        while heads:
            namespace = min(
                heads,
                key=lambda name: (
                    heads[name][-1][0],
                    use.by_namespace[name],
                    self._served.get(name, 0),
                    heads[name][-1][1],
                ),
            )
            _, _, key = heads[namespace].pop()
            if not heads[namespace]:
                del heads[namespace]
            ask = self._waiting[key]
            if use.full(ask):
                if use.total(ask.caps) >= ask.caps.total:
                    break
                continue
            use.add(namespace, ask.build_class)
            admitted.append(key)
        return admitted


class Use:
    """How many builds run, counted in each way that a cap may hold for."""

    def __init__(self) -> None:
        self.by_namespace: Counter[str] = Counter()
        self.by_both: Counter[tuple[str, str]] = Counter()

    @classmethod
    def of(cls, running: Iterable[JobView], granted: Iterable[Ask]) -> "Use":
        """What runs, and what is about to."""
        use = cls()
        for job in running:
            use.add(job.namespace, job.build_class)
        for ask in granted:
            use.add(ask.key[0], ask.build_class)
        return use

    def add(self, namespace: str, build_class: str) -> None:
        """One more."""
        self.by_namespace[namespace] += 1
        self.by_both[build_class, namespace] += 1

    def total(self, caps: Caps) -> int:
        """All builds, of no namespace more than it may have at once.

        Whoever may create Jobs can label as many as they like as builds: they take places of
        their own namespace, never of others.
        """
        return sum(min(count, caps.namespace) for count in self.by_namespace.values())

    def of_class(self, name: str, caps: Caps) -> int:
        """All builds of a class, counted in the same way."""
        most = caps.namespace if caps.class_namespace is None else caps.class_namespace
        return sum(min(n, most) for (found, _), n in self.by_both.items() if found == name)

    def full(self, ask: Ask) -> str:
        """The cap that a build would go over, in words; "" where there is room."""
        caps, namespace, name = ask.caps, ask.key[0], ask.build_class
        if self.total(caps) >= caps.total:
            return f"all {caps.total} builds that may run at once are running"
        if self.by_namespace[namespace] >= caps.namespace:
            return f"all {caps.namespace} builds that this namespace may run at once are running"
        if caps.of_class is not None and self.of_class(name, caps) >= caps.of_class:
            return f"all {caps.of_class} builds that the class {name} allows are running"
        if (
            caps.class_namespace is not None
            and self.by_both[name, namespace] >= caps.class_namespace
        ):
            return (
                f"all {caps.class_namespace} builds that the class {name} allows in this "
                "namespace are running"
            )
        return ""


def with_trouble(queued: Queued, troubles: Mapping[str, str]) -> Queued:
    """What a build waits for, with what keeps those before it from starting, if that is known.

    Args:
        queued: why it waits.
        troubles: what is wrong with pods, by the names of their Jobs.
    """
    stuck = [job.name for job in queued.behind if job.name in troubles]
    if not stuck:
        return queued
    first = plain_text(troubles[stuck[0]], SHOWN)
    if queued.twin:
        return replace(queued, words=f"{queued.words}; its pod does not run: {first}")
    pods = "pod of one does" if len(stuck) == 1 else f"pods of {len(stuck)} do"
    return replace(queued, words=f"{queued.words}; the {pods} not run, {stuck[0]}: {first}")


def occupies(job: JobView) -> bool:
    """Whether a Job takes a place: Kueue's are counted by Kueue."""
    return job.state in {JobState.LIVE, JobState.DELETING} and not job.queue


def _twin(ask: Ask, running: Iterable[JobView]) -> JobView | None:
    """The live Job of another image that builds the same, if there is one."""
    same = (job for job in running if (job.namespace, job.input_hash) == ask.builds)
    return next((job for job in same if job.image != ask.key[1]), None)


def _aged(ask: Ask, now: float) -> int:
    return max(int(ask.urgency) - int((now - ask.since) // AGING), 0)
