"""`/v1/models`, `/health` and `/metrics`."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse, PlainTextResponse

from rxlm.serving.api import documents
from rxlm.serving.api.context import Caller, Context, Server, check_model
from rxlm.serving.api.documents import answers
from rxlm.serving.api.errors import ApiError

router = APIRouter(tags=["server"])


@router.get("/v1/models", response_model=None, responses=answers(documents.Models))
def models(context: Server, tenant: Caller) -> dict[str, Any]:
    """Return the model that is served."""
    return {"object": "list", "data": [_model(context)]}


@router.get("/v1/models/{name:path}", response_model=None, responses=answers(documents.Model))
def model(context: Server, tenant: Caller, name: str) -> dict[str, Any]:
    """Return the model that is served, by its name."""
    check_model(context, name)
    return _model(context)


@router.get("/health", response_model=None, responses=answers(documents.Health))
def health(context: Server) -> JSONResponse:
    """Tell whether the server answers; 503 while it is stopping, or when its store cannot be reached."""
    scheduler = context.service.scheduler
    if scheduler.is_draining:
        raise ApiError(503, "The server is stopping.", code="server_stopping", headers={"Retry-After": "2"})
    context.tenants.backend.counter("health")
    return JSONResponse({"status": "ok", "running": scheduler.num_running, "waiting": scheduler.num_waiting})


@router.get("/metrics", include_in_schema=False)
def metrics(context: Server) -> PlainTextResponse:
    """Return figures for Prometheus."""
    return PlainTextResponse(context.metrics.text(), media_type="text/plain; version=0.0.4")


def _model(context: Context) -> dict[str, Any]:
    return {
        "id": context.service.name, "object": "model", "created": int(context.service.started), "owned_by": "rxlm",
    }  # fmt: skip
