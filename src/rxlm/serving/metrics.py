"""Figures of the server for Prometheus, under vLLM's names where these exist."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rxlm.serving.scheduler import Scheduler
from rxlm.serving.store.store import Store

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts what is answered."""

    def __init__(self, scheduler: Scheduler, store: Store | None) -> None:
        self.registry = CollectorRegistry()
        gauge = {"registry": self.registry}
        Gauge("vllm:num_requests_running", "Answers that are being written", **gauge).set_function(
            lambda: scheduler.num_running
        )
        Gauge("vllm:num_requests_waiting", "Answers that wait", **gauge).set_function(lambda: scheduler.num_waiting)
        Gauge("rxlm:memory_cache_bytes", "Memories in this process", **gauge).set_function(
            lambda: scheduler.cache.num_bytes
        )
        Gauge("rxlm:busy_seconds_total", "Seconds that the model has computed", **gauge).set_function(
            lambda: scheduler.busy_seconds
        )
        if store is not None:
            Gauge("rxlm:stored_memory_bytes", "Memories in the store", **gauge).set_function(store.memory_bytes)
        self.prompt_tokens = Counter("vllm:prompt_tokens", "Tokens read, of queries and of turns again", **gauge)
        self.cached_tokens = Counter("vllm:prompt_tokens_cached", "Tokens that memories stand for", **gauge)
        self.generated_tokens = Counter("vllm:generation_tokens", "Tokens written", **gauge)
        self.finished = Counter("vllm:request_success", "Complete answers", ["finished_reason"], **gauge)
        self.first_token = Histogram(
            "vllm:time_to_first_token_seconds", "From the question to the first token", buckets=_SECONDS, **gauge
        )
        self.whole = Histogram(
            "vllm:e2e_request_latency_seconds", "From the question to the last token", buckets=_SECONDS, **gauge
        )
        self.update = Histogram(
            "rxlm:memory_update_seconds", "Making the memory after an answer", buckets=_SECONDS, **gauge
        )
        self.requests = Counter("rxlm:http_requests", "Requests", ["method", "route", "status"], **gauge)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text form."""
        return generate_latest(self.registry)
