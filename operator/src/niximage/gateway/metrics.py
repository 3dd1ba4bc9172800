"""What the gateway counts, for Prometheus."""

from collections.abc import Callable
from typing import Final

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from niximage.gateway.access import body_length

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)


class Metrics:
    """One gateway's figures, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self._requests = Counter(
            "niximage_gateway_requests",
            "Requests answered.",
            ["method", "kind", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "niximage_gateway_request_seconds",
            "Seconds from a request's headers to the last byte of its answer.",
            ["kind"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._bytes = Counter(
            "niximage_gateway_response_bytes",
            "Bytes of the bodies that were sent.",
            ["kind"],
            registry=self.registry,
        )
        self.replayed = Counter(
            "niximage_gateway_replayed_requests",
            "Requests answered from memory, as equal ones were before.",
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "niximage_gateway_requests_in_flight",
            "Requests under way.",
            registry=self.registry,
        )
        self.connections = Gauge(
            "niximage_gateway_connections", "Connections open.", registry=self.registry
        )
        self.bucket_seconds = Histogram(
            "niximage_gateway_bucket_call_seconds",
            "Seconds that calls to the bucket took.",
            ["call"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.bucket_failures = Counter(
            "niximage_gateway_bucket_failures",
            "Calls to the bucket that failed or took too long.",
            ["call"],
            registry=self.registry,
        )
        self.memory = Gauge(
            "niximage_gateway_memory_bytes",
            "Bytes of answers kept in memory.",
            ["kind"],
            registry=self.registry,
        )
        self.credentials = Counter(
            "niximage_gateway_credentials_checked",
            "Credentials that were looked at, not remembered.",
            ["result"],
            registry=self.registry,
        )
        self.certificate_expiry = Gauge(
            "niximage_gateway_certificate_expiry_timestamp_seconds",
            "When the TLS certificate ends, in seconds since 1970; 0 without TLS.",
            registry=self.registry,
        )

    def answered(
        self, request: web.BaseRequest, response: web.StreamResponse, kind: str, seconds: float
    ) -> Callable[[], None]:
        """Count an answer; returns what counts each replay of it."""
        length = body_length(request, response)
        method = request.method if request.method in {"GET", "HEAD", "POST"} else "other"
        requests = self._requests.labels(method, kind, str(response.status))
        sent = self._bytes.labels(kind)
        requests.inc()
        sent.inc(length)
        self._seconds.labels(kind).observe(seconds)

        def again() -> None:
            requests.inc()
            sent.inc(length)
            self.replayed.inc()

        return again

    def text(self) -> bytes:
        """All figures, as Prometheus reads them."""
        return generate_latest(self.registry)
