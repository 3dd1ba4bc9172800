"""What the operator tells Prometheus: work, builds, sources, and images by condition.

Nothing is labelled by image, so that ten thousand of them make no more series than one.
"""

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from niximage.api.status import NixImageStatus
from niximage.controller.builds.turns import occupies
from niximage.controller.cache import Cache

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

_BUILD_SECONDS: Final = (5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
_PASS_SECONDS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 5, 30, 120)


class Metrics:
    """One operator's figures."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.passes = Histogram(
            "niximage_reconcile_duration_seconds",
            "How long one pass over an image takes.",
            ["result"],
            buckets=_PASS_SECONDS,
            registry=self._registry,
        )
        self.builds = Counter(
            "niximage_builds",
            "Builds that ended, by result and reason.",
            ["result", "reason"],
            registry=self._registry,
        )
        self.build_seconds = Histogram(
            "niximage_build_duration_seconds",
            "How long builds took, from Job to end.",
            ["result"],
            buckets=_BUILD_SECONDS,
            registry=self._registry,
        )
        self.resolves = Counter(
            "niximage_source_resolve",
            "How often a server was asked for a revision, by result.",
            ["result"],
            registry=self._registry,
        )
        self.published = Counter(
            "niximage_published_bytes",
            "Bytes of published images that were not in the bucket before.",
            registry=self._registry,
        )
        self.leader = Gauge(
            "niximage_leader", "Whether this process acts.", registry=self._registry
        )
        self.listed = Gauge(
            "niximage_last_list_timestamp_seconds",
            "When all objects were listed last.",
            registry=self._registry,
        )

    def watch(self, cache: Cache, queued: Callable[[], int], waiting: Callable[[], int]) -> None:
        """Tell of the cache and the queues, too, as they are when somebody asks."""
        self._registry.register(_Now(cache, queued, waiting))

    def changed(self, before: NixImageStatus, after: NixImageStatus) -> None:
        """Count what differs between two statuses of an image."""
        known = {build.id for build in before.history}
        for build in after.history:
            if build.id in known or not build.job_name:
                continue
            self.builds.labels(build.result, build.reason).inc()
            seconds = (build.completion_time - build.start_time).total_seconds()
            self.build_seconds.labels(build.result).observe(max(seconds, 0))
        if after.artifact is not None and after.digest != before.digest:
            self.published.inc(max(after.artifact.size - after.artifact.reused_size, 0))

    def exposition(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)


class _Now(Collector):
    """Figures that are counted when somebody asks for them."""

    def __init__(self, cache: Cache, queued: Callable[[], int], waiting: Callable[[], int]) -> None:
        self._cache = cache
        self._queued = queued
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        images = GaugeMetricFamily(
            "niximage_images",
            "Images by condition and its value.",
            labels=["condition", "status", "reason"],
        )
        for labels, count in sorted(_conditions(self._cache).items()):
            images.add_metric(list(labels), count)
        yield images
        running = sum(occupies(job) for job in self._cache.all_jobs())
        yield GaugeMetricFamily("niximage_queue_depth", "Images to look at.", value=self._queued())
        yield GaugeMetricFamily(
            "niximage_builds_waiting", "Builds that wait for their turn.", value=self._waiting()
        )
        yield GaugeMetricFamily("niximage_builds_running", "Builds that run.", value=running)

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before it is counted."""
        return ()


def _conditions(cache: Cache) -> Count[tuple[str, str, str]]:
    return Count(cache.conditions())
