"""The OpenAPI document says what the server does: schemathesis asks what it allows, and what it does not."""

from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig

from running_server import Running, running

EXAMPLES = 2
"""Of each kind of request to each address. For many: `schemathesis run ADDRESS/openapi.json`."""
# A request of the right form may still be refused: an id names nothing, a message is too long, or says nothing.
CONFIG = {
    "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "400", "401", "404", "409", "413", "429"]}}
}
QUICK = settings(
    max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None,
    derandomize=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def server(models) -> Iterator[Running]:
    with running(models["slots"]) as run:
        yield run


@pytest.fixture(scope="module")
def document(server: Running) -> dict:
    return httpx.get(f"{server.address}/openapi.json").json()


def has_openai_shape(context, response, case) -> None:
    """All errors have OpenAI's shape, and all answers an id."""
    if response.status_code >= 400:
        assert response.status_code != 422
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert response.headers["x-request-id"][0].startswith("req_")


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_schemathesis_finds_nothing(server: Running, document: dict, mode: GenerationMode):
    schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig.from_dict(CONFIG))
    headers, asked = {"Authorization": f"Bearer {server.key}"}, 0
    for found in schema.get_all_operations():
        operation = found.ok()
        if mode.is_negative and not (operation.body or operation.query or operation.path_parameters):
            continue

        @QUICK
        @given(case=operation.as_strategy(mode))
        def check(case):
            nonlocal asked
            asked += 1
            case.call_and_validate(
                base_url=server.address, headers=headers, additional_checks=[has_openai_shape], timeout=30
            )

        check()
    assert asked > 20


def test_the_document_names_keys_errors_and_streams(document: dict):
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert "422" not in operation["responses"]
            for kind in ("4XX", "5XX"):
                form = operation["responses"][kind]["content"]["application/json"]["schema"]
                assert form == {"$ref": "#/components/schemas/ErrorBody"}
            assert bool(operation.get("security")) == path.startswith("/v1/")
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    for path, method in (("/v1/responses", "post"), ("/v1/chat/completions", "post"), ("/v1/responses/{name}", "get")):
        good = document["paths"][path][method]["responses"]["200"]["content"]
        assert set(good) == {"application/json", "text/event-stream"}
