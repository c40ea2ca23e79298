"""Counts for Prometheus under the names TF-Serving uses, so that one dashboard reads both."""

import bisect
from collections import defaultdict
from collections.abc import Callable

# Upper bounds of TF-Serving's latency buckets grow by 1.8 from 10 microseconds.
_LATENCY_BOUNDS = [10 * 1.8**i for i in range(33)]
_ROW_BOUNDS = [1.0, 2, 4, 8, 16, 32, 64, 128, 256]


class _Histogram:
    def __init__(self, bounds: list[float]):
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect.bisect_left(self.bounds, value)] += 1
        self.total += value


class Metrics:
    """Counts of one server and model.

    Args:
        model: its name, a label of every count.
    """

    def __init__(self, model: str):
        self.model = model
        self._requests: dict[str, int] = defaultdict(int)
        self._latencies: dict[tuple[str, str], _Histogram] = defaultdict(
            lambda: _Histogram(_LATENCY_BOUNDS)
        )
        self._run = _Histogram(_LATENCY_BOUNDS)
        self._queuing = _Histogram(_LATENCY_BOUNDS)
        self._graph = _Histogram(_LATENCY_BOUNDS)
        self._rows = _Histogram(_ROW_BOUNDS)
        self._gauges: dict[str, Callable[[], float]] = {}

    def note_request(self, status: str, seconds: float, api: str, entrypoint: str) -> None:
        """One request answered or refused: gRPC status code, time, "predict", "gRPC" or "REST"."""
        self._requests[status] += 1
        self._latencies[api, entrypoint].add(seconds * 1e6)

    def note_run(self, seconds: float) -> None:
        """Time a request spent in queue and graph."""
        self._run.add(seconds * 1e6)

    def note_batch(self, rows: int, waited: float, ran: float) -> None:
        """A batch: its rows, how long its first request waited, how long the graph ran."""
        self._rows.add(rows)
        self._queuing.add(waited * 1e6)
        self._graph.add(ran * 1e6)

    def watch(self, name: str, value: Callable[[], float]) -> None:
        """A number read whenever the counts are asked for."""
        self._gauges[name] = value

    def text(self) -> str:
        """The counts in Prometheus' text format 0.0.4."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry).decode()

    def collect(self):
        """Prometheus' collector interface."""
        from prometheus_client.core import GaugeMetricFamily, Metric

        requests = Metric(":tensorflow:serving:request_count", "Requests by status.", "unknown")
        for status, count in sorted(self._requests.items()):
            labels = {"model_name": self.model, "status": status}
            requests.add_sample(requests.name, labels, count)
        yield requests
        latency = Metric(
            ":tensorflow:serving:request_latency",
            "Microseconds from request to answer.",
            "histogram",
        )
        for (api, entrypoint), histogram in sorted(self._latencies.items()):
            labels = {"model_name": self.model, "API": api, "entrypoint": entrypoint}
            _add_histogram(latency, labels, histogram)
        yield latency
        for name, text, labels, histogram in (
            (
                ":tensorflow:serving:runtime_latency",
                "Microseconds a request spent waiting for and in the graph.",
                {"model_name": self.model, "API": "Predict", "runtime": "TF1"},
                self._run,
            ),
            (
                ":tensorflow:serving:batching_session:queuing_latency",
                "Microseconds the first request of a batch waited.",
                {},
                self._queuing,
            ),
            (
                ":tensorflow:serving:batching_session:processed_batch_size",
                "Rows of the batches that ran.",
                {"model_name": self.model},
                self._rows,
            ),
            (
                "retinaface_serving_graph_latency",
                "Microseconds a batch ran.",
                {"model_name": self.model},
                self._graph,
            ),
        ):
            metric = Metric(name, text, "histogram")
            _add_histogram(metric, labels, histogram)
            yield metric
        for name, value in sorted(self._gauges.items()):
            yield GaugeMetricFamily(f"retinaface_serving_{name}", "At this moment.", value())


def _add_histogram(metric, labels: dict[str, str], histogram: _Histogram) -> None:
    below = 0
    for bound, count in zip([*histogram.bounds, float("inf")], histogram.counts):
        below += count
        label = "+Inf" if bound == float("inf") else f"{bound:g}"
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": label}, below)
    metric.add_sample(f"{metric.name}_sum", labels, histogram.total)
    metric.add_sample(f"{metric.name}_count", labels, below)
