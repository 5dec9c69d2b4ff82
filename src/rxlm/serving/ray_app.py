"""Many servers over one store with Ray Serve: `serve run rxlm.serving.ray_app:app model=FOLDER store=redis://...`.

A plain deployment: each replica is the application of `rxlm serve`, with a model of its own. What is said stands in
the store, so that any replica answers any turn; the header `x-session-id` sends a conversation's turns to the replica
that has its memory in its cache, which saves reading it from the store, and nothing else.
"""

import os
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from starlette.types import ASGIApp, Receive, Scope, Send

from rxlm.serving.app import make_app
from rxlm.serving.launch import Launch, build, key_of
from rxlm.serving.store.opening import NO_STORE, store_beside, store_of
from rxlm.serving.store.tenants import Tenants

VARIABLE = "RXLM_"
RAYS_OWN = ("host", "port", "origins")
"""What Ray's proxies do instead: serve's configuration has them."""
SESSION_ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"
SECONDS_TO_END = 75.0
_TYPES: Mapping[str, TypeAdapter[Any]] = {
    name: TypeAdapter(kind) for name, kind in get_type_hints(Launch).items() if name not in RAYS_OWN
}


def launch_of(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> Launch:
    """Return the options of the replicas: `arguments`, and RXLM_MODEL, RXLM_STORE, ... where there are none.

    ValueError for what is no option, or a wrong value.
    """
    unknown = sorted(set(arguments) - set(_TYPES))
    if unknown:
        raise ValueError(f"{unknown[0]} is no option of these: {', '.join(['replicas', *_TYPES])}.")
    given = {name: value for name in _TYPES if (value := environment.get(VARIABLE + name.upper())) is not None}
    values: dict[str, Any] = {
        name: _TYPES[name].validate_python(value) for name, value in {**given, **arguments}.items()
    }
    if "model" not in values:
        raise ValueError("name a model: model=FOLDER, or the variable RXLM_MODEL.")
    values.setdefault("store", store_beside(values["model"]))
    return Launch(**values)


def check(options: Launch) -> None:
    """Raise ValueError where replicas would not be one server: they need one store, and a key that all know."""
    store = options.store or ""
    if store in (NO_STORE, ":memory:"):
        raise ValueError(f"replicas share a store, and {store} is one process's: give a file or redis://....")
    if options.api_key is None:
        backend = store_of(store, may_be_new=True)
        try:
            if not Tenants(backend).keys():
                raise ValueError(f"the store has no key: make one with `rxlm keys add TENANT --store {store}`.")
        finally:
            backend.close()


class _Delegate:
    """The application of the replica that this process is."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        await _Delegate.app(scope, receive, send)


def app(arguments: dict[str, Any]) -> Any:
    """Return the application for `serve run`, with options of `Launch` by name, and `replicas`.

    SQLite serves replicas on one machine; on several, the store is Redis.
    """
    try:
        from ray import serve  # pyrefly: ignore[missing-import]
        from ray.serve.config import RequestRouterConfig  # pyrefly: ignore[missing-import]
    except ImportError as error:
        raise ImportError("Ray Serve is not installed: pip install 'reactive-lm[serve,ray]'.") from error

    arguments = dict(arguments)
    replicas = int(arguments.pop("replicas", 1))
    options = launch_of(arguments, os.environ)
    check(options)

    class Server:
        """One replica."""

        def __init__(self, options: Launch) -> None:
            context = build(options)
            key_of(context, options)
            self.scheduler = context.service.scheduler
            _Delegate.app = make_app(context, options.limits)

        def check_health(self) -> None:
            """Let Ray replace a replica whose model's thread has ended."""
            if not self.scheduler.is_alive:
                raise RuntimeError("the model's thread has ended.")

    deployment = serve.deployment(
        serve.ingress(_Delegate())(Server),
        name="rxlm",
        num_replicas=replicas,
        max_ongoing_requests=options.rows + options.waiting + 16,  # beyond, replicas themselves answer 429
        graceful_shutdown_timeout_s=SECONDS_TO_END,
        request_router_config=RequestRouterConfig(request_router_class=SESSION_ROUTER),
        ray_actor_options={"num_cpus": options.threads or 1, "num_gpus": int(options.device.startswith("cuda"))},
    )
    return deployment.bind(options)
