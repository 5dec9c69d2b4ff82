"""What every interface needs: who asks, what they may, and the service that answers."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from threading import Lock
from typing import Annotated, Any, Literal

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from rxlm.rxt.alpha import ThinkingMode
from rxlm.serving.answers import Options
from rxlm.serving.api.errors import ApiError
from rxlm.serving.api.requests import Sampling, Stop
from rxlm.serving.keys import key_digest
from rxlm.serving.metrics import Metrics
from rxlm.serving.service import Service
from rxlm.serving.store.records import Tenant
from rxlm.serving.store.store import Store
from rxlm.serving.store.tenants import Tenants

MINUTE = 60.0
BEARER = HTTPBearer(auto_error=False, description="An API key of this server.")


@dataclass
class Context:
    """The state of the application.

    Fields:
        service: answers. tenants: whom API keys belong to. session_keys: digests of keys of this process alone, with
            the names of their tenants.
        texts_in_log: whether the log may have what was said. ping_seconds: silence after which a stream says that it
            is alive.
    """

    service: Service
    tenants: Tenants
    metrics: Metrics
    session_keys: dict[str, str] = field(default_factory=dict)
    texts_in_log: bool = False
    ping_seconds: float = 15.0
    budgets: "Budgets" = field(default_factory=lambda: Budgets())
    background: dict[tuple[str, str], Any] = field(default_factory=dict)
    """Responses in the background, by tenant and id, until long after their end."""
    busy_conversations: set[tuple[str, str]] = field(default_factory=set)

    @property
    def store(self) -> Store:
        """The store; an error where there is none."""
        if self.service.store is None:
            raise ApiError(400, "This server stores nothing (--store none).", code="no_store")
        return self.service.store

    @property
    def system(self) -> str:
        """What tells this model from others, for clients."""
        return f"fp_{self.service.fingerprint[:12]}"

    def owner(self, api_key: str) -> Tenant | None:
        """Return whose an API key is."""
        name = self.session_keys.get(key_digest(api_key))
        return self.tenants.owner(api_key) if name is None else self.tenants.named(name)


class Budgets:
    """Tokens that tenants have used within a minute, in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, Lock()
        self._used: dict[str, deque[tuple[float, int]]] = {}

    def use(self, tenant: Tenant, tokens: int) -> None:
        """Note tokens that were read or written."""
        if tenant.tokens_per_minute is not None and tokens:
            with self._lock:
                self._used.setdefault(tenant.id, deque()).append((self._clock(), tokens))

    def check(self, tenant: Tenant) -> None:
        """Raise `ApiError` while a tenant has used up its tokens."""
        limit = tenant.tokens_per_minute
        if limit is None:
            return
        with self._lock:
            used, now = self._used.setdefault(tenant.id, deque()), self._clock()
            while used and used[0][0] <= now - MINUTE:
                used.popleft()
            left = sum(tokens for _, tokens in used)
            if left < limit:
                return
            wait = 1
            for then, tokens in used:  # the oldest are forgotten first, until there is room
                left -= tokens
                if left < limit:
                    wait = max(1, ceil(then + MINUTE - now))
                    break
        raise ApiError(
            429,
            f"{tenant.name} may use {limit:,} tokens a minute, and has; try again in {wait} seconds.",
            code="rate_limit_exceeded",
            headers={"Retry-After": str(wait)},
        )


def context_of(request: Request) -> Context:
    """Return the application's state."""
    return request.app.state.context


def tenant_of(request: Request) -> Tenant:
    """Return who asks, by the bearer key; looked up once a request."""
    known = getattr(request.state, "caller", None)
    if known is not None:
        return known
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    tenant = context_of(request).owner(given.strip()) if scheme.lower() == "bearer" and given else None
    if tenant is None:
        raise ApiError(
            401,
            "Incorrect API key provided." if given else "Send an API key: 'Authorization: Bearer KEY'.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
    request.state.tenant, request.state.caller = tenant.name, tenant
    return tenant


def caller_of(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Security(BEARER)]
) -> Tenant:
    """Return who asks; `ApiError` for parameters in the address that mean nothing there."""
    tenant, route = tenant_of(request), request.scope["route"]
    known = {parameter.alias for parameter in route.dependant.query_params}
    for name in request.query_params:
        if name not in known:
            raise ApiError(400, f"Unknown parameter: '{name:.80}'.", param=name, code="unknown_parameter")
    return tenant


Server = Annotated[Context, Depends(context_of)]
Caller = Annotated[Tenant, Depends(caller_of)]


def is_stored(context: Context, wanted: bool | None) -> bool:
    """Tell whether an answer is stored, which it is unless `store` is false; `ApiError` where it cannot be."""
    if wanted and context.service.store is None:
        raise ApiError(400, "This server stores nothing: store must be false.", param="store", code="no_store")
    return wanted is not False and context.service.store is not None


def check_budget(context: Context, tenant: Tenant, *, stored: bool = True, more: int = 0) -> None:
    """Raise `ApiError` where a tenant has used up its tokens, or its room in the store for what is to be stored.

    `more`: bytes that will certainly be stored.
    """
    context.budgets.check(tenant)
    store = context.service.store
    if stored and store is not None and tenant.max_bytes is not None:
        used = store.stored_bytes(tenant.id)
        if used + more >= tenant.max_bytes:
            raise ApiError(
                429,
                f"{tenant.name} may store {tenant.max_bytes:,} bytes, and stores {used:,}"
                f"{f' before these {more:,}' if more else ''}: delete conversations or "
                "responses (DELETE /v1/responses/ID, which takes the ids of chat completions, too), or ask with "
                "store=false.",
                code="insufficient_quota",
            )


def check_idle(context: Context, tenant: Tenant, conversation: str) -> None:
    """Raise `ApiError` while a conversation answers: what moves its head would take the answer its place."""
    if (tenant.id, conversation) in context.busy_conversations:
        raise ApiError(409, "The conversation is answering another message.", code="conversation_locked")


def check_model(context: Context, name: str | None) -> None:
    """Raise `ApiError` unless a model is the one that is served."""
    if name not in (None, context.service.name):
        raise ApiError(
            404, f"The model '{name:.80}' does not exist; this server has '{context.service.name}'.", param="model",
            code="model_not_found",
        )  # fmt: skip


def options_of(
    context: Context,
    given: Sampling,
    *,
    max_tokens: int | None,
    stop: Stop | str | None,
    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None,
    log_probs: bool,
    effort_param: str = "reasoning",
) -> Options:
    """Return how an answer is to be written; `effort_param` is what clients call the effort."""
    names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
    values: dict[str, Any] = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    if values.get("top_p") == 0:  # OpenAI's programs mean: the likeliest token
        values = {**values, "top_p": None, "temperature": 0.0}
    thinking: ThinkingMode | None = None
    if effort is not None:
        thinks = context.service.model.thinks
        if not thinks and effort != "none":
            raise ApiError(
                400, f"This model does not think: reasoning effort must be 'none', got '{effort}'.", param=effort_param,
                code="unsupported_value",
            )  # fmt: skip
        thinking = None if not thinks else "fast" if effort == "none" else "extended"
    seed = None if given.seed is None else given.seed % 2**63
    return Options(
        context.service.sampling.replace(**values),
        seed,
        max_tokens,
        (stop,) if isinstance(stop, str) else tuple(stop or ()),
        thinking,
        log_probs,
    )
