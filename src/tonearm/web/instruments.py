"""The instruments of one process and the sums over its machine's; ``telemetry`` says first who shares them."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from tonearm.web.telemetry import FOLDER_VARIABLE

# Seconds: from a short clip on a GPU to hours of audio on a laptop.
LATENCY_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Metrics:
    """The instruments of this process."""

    def __init__(self) -> None:
        self.registry = REGISTRY
        self.requests = Counter("tonearm_requests", "Requests answered.", ["route", "method", "status"])
        self.request_seconds = Histogram(
            "tonearm_request_seconds",
            "From a request's head to the end of its answer.",
            ["route"],
            buckets=LATENCY_BUCKETS,
        )
        self.in_hand = Gauge(
            "tonearm_requests_in_hand", "Requests taken on and not yet answered.", multiprocess_mode="livesum"
        )
        self.lost_lines = Counter("tonearm_access_log_lost", "Lines of the access log that could not be written.")
        self.audio_seconds = Counter("tonearm_audio_seconds", "Seconds of audio decoded.")
        self.windows = Counter("tonearm_windows", "Windows scored; its rate is windows a second.", ["head"])
        self.batch_windows = Histogram(
            "tonearm_batch_windows", "Windows of one forward pass.", ["head"], buckets=BATCH_BUCKETS
        )
        self.forward_seconds = Counter("tonearm_forward_seconds", "Seconds spent in forward passes.", ["head"])
        self.waiting_windows = Gauge(
            "tonearm_waiting_windows", "Windows in a head's queue.", ["head"], multiprocess_mode="livesum"
        )

    def text(self) -> bytes:
        """Return the metrics of all processes of this machine in Prometheus's text format."""
        folder = os.environ.get(FOLDER_VARIABLE)
        if folder is None or not Path(folder).is_dir():
            return generate_latest(self.registry)
        _forget_dead(Path(folder))
        together = CollectorRegistry()
        MultiProcessCollector(together)
        return generate_latest(together)

    def count(self, route: str, method: str, status: int, elapsed_s: float) -> None:
        """Count a request that has been answered."""
        # Anybody can make up methods: each would be a figure that this process keeps until it ends.
        self.requests.labels(route, method if method in METHODS else "other", status).inc()
        self.request_seconds.labels(route).observe(elapsed_s)


def _forget_dead(folder: Path) -> None:
    """Take the gauges of ended processes, replicas that were killed, out of the sums; their counters stay."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            mark_process_dead(pid, str(folder))
