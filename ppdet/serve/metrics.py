"""What a service counts, in the format of Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

#: Seconds; from a small network on a GPU to a large one with a queue on two cores.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_IMAGES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters of one service; every service has its own.

    Attributes:
        requests: By path, method and status.
        request_seconds: From the first byte to the last one of the response, by path.
        images: Images whose detections were computed.
        batch_images: Images that the network ran at once.
        queue_seconds: From a prepared image to the start of its batch.
        network_seconds: Of a batch.
        under_way: Requests for detections under way.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.requests = self._counter("requests", "Requests", ("path", "method", "status"))
        self.request_seconds = self._histogram("request_seconds", "Time of a request", ("path",))
        self.images = self._counter("images", "Images whose detections were computed", ())
        self.batch_images = self._histogram("batch_images", "Images run at once", (), _IMAGES)
        self.queue_seconds = self._histogram("queue_seconds", "Wait of a prepared image", ())
        self.network_seconds = self._histogram("network_seconds", "Time of a batch in the network", ())
        self.under_way = Gauge(
            "ppdet_requests_under_way", "Requests for detections under way", registry=self._registry
        )

    def _counter(self, name: str, text: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"ppdet_{name}", text, labels, registry=self._registry)

    def _histogram(
        self, name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...] = _SECONDS
    ) -> Histogram:
        return Histogram(f"ppdet_{name}", text, labels, buckets=buckets, registry=self._registry)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self._registry)
