"""Errors as clients of OpenAI's interfaces know them: `{"error": {message, type, param, code}}`."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from rxlm.config import ConfigError
from rxlm.serving.asking import BusyError, ModelFaultError
from rxlm.serving.lengths import TooLongError
from rxlm.serving.service import OtherModelError
from rxlm.serving.store.backend import StoreError
from rxlm.serving.store.store import GoneError

LOG = logging.getLogger("rxlm.serving")
_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "invalid_request_error", 408: "timeout_error", 409: "conflict_error", 413: "invalid_request_error",
    429: "rate_limit_error", 500: "server_error", 503: "server_error",
}  # fmt: skip


_MESSAGES = dict.fromkeys(("model_type", "model_attributes_type", "dict_type", "dataclass_type"), "must be an object")
"""What pydantic says in the words of Python."""
_CODES = {408: "timeout", 413: "request_too_large"}


class ApiError(Exception):
    """What a client did wrong, or what the server cannot do."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.headers = status, message, param, headers
        self.code = _CODES.get(status, "invalid_value") if code is None else code

    @property
    def body(self) -> dict[str, Any]:
        """What the client is sent."""
        return {
            "error": {
                "message": _writable(self.message), "type": _TYPES[self.status],
                "param": None if self.param is None else _writable(self.param[:200]), "code": self.code,
            }
        }  # fmt: skip

    @property
    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body, self.status, headers=dict(self.headers or {}))


def _writable(text: str) -> str:
    """Return a text as UTF-8 can be written: half a surrogate pair, which JSON can name, becomes its escape."""
    return text.encode("utf-8", "backslashreplace").decode()


def not_found(kind: str, name: str, param: str | None = None) -> ApiError:
    """Return the error for something that is not there, or belongs to somebody else: nobody can tell which."""
    return ApiError(404, f"{kind} with id '{name[:80]}' not found.", param=param, code="not_found")


def error_of(error: Exception) -> ApiError:
    """Return what a client is told of an error."""
    if isinstance(error, ApiError):
        return error
    message = str(error)
    if isinstance(error, BusyError):
        stopping = "stopping" in message
        code = "server_stopping" if stopping else "too_many_requests"
        return ApiError(503 if stopping else 429, message, code=code, headers={"Retry-After": "2"})
    if isinstance(error, ModelFaultError):
        return ApiError(500, message, code="model_fault")
    if isinstance(error, UnicodeEncodeError):
        return ApiError(400, "A text has half a surrogate pair, which is no character.")
    if isinstance(error, TooLongError):
        return ApiError(400, message, param="input", code="context_length_exceeded")
    if isinstance(error, OtherModelError):
        return ApiError(400, message, code="other_model")
    if isinstance(error, GoneError):
        return ApiError(409, message, code="conversation_changed")
    if isinstance(error, StoreError):
        LOG.error("%s", message)
        return ApiError(503, "The store of conversations cannot be reached.", code="store_unavailable")
    if isinstance(error, ConfigError | ValueError):
        return ApiError(400, message, code="invalid_value")
    LOG.error("an error of the server itself", exc_info=error)
    return ApiError(500, f"An error of the server itself ({type(error).__name__}); its log says more.", code="internal")


def install(app: FastAPI) -> None:
    """Let an application answer with these errors, whatever goes wrong."""

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return _of_validation(error.errors()).response

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        status = error.status_code if error.status_code in _TYPES else 400
        code = {404: "unknown_url", 405: "method_not_allowed"}.get(status)
        message = f"{error.detail}: {request.method} {request.url.path}"
        return ApiError(status, message, code=code, headers=error.headers).response

    @app.exception_handler(Exception)
    async def other(request: Request, error: Exception) -> JSONResponse:
        return error_of(error).response

    for kind in (ApiError, BusyError, GoneError, StoreError, ValueError):
        app.add_exception_handler(kind, other)


def _of_validation(errors: Sequence[Any]) -> ApiError:
    first = errors[0]
    if first["type"] == "json_invalid":
        return ApiError(400, f"The body is not JSON: {first['ctx']['error']}.", code="invalid_json")
    # Tags of unions stand in brackets: no field has such a name.
    place = [each for each in first["loc"] if each not in ("body", "query", "path") and not str(each).startswith("(")]
    param = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in place).lstrip(".") or None
    if first["type"] == "extra_forbidden":
        return ApiError(400, f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")
    if first["type"] == "unsupported":
        param = ".".join(filter(None, (param, first["ctx"]["name"])))
        return ApiError(400, f"{first['msg']}.", param=param, code="unsupported_parameter")
    code = {"missing": "missing_required_parameter"}.get(first["type"])
    message = _MESSAGES.get(first["type"], first["msg"].removeprefix("Value error, ").rstrip("."))
    if isinstance(first.get("input"), str | int | float | None) and first["type"] != "missing":
        message += f", got {first['input']!r:.80}"
    return ApiError(400, f"{param or 'The body'}: {message}.", param=param, code=code or "invalid_value")
