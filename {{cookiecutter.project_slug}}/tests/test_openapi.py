"""The running service against its own OpenAPI document: no 5xx, nothing that is not documented."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from httpx2 import Client
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis
from schemathesis import Case
from schemathesis.checks import positive_data_acceptance
from schemathesis.openapi import from_dict

from app.main import create_app
from app.settings import Settings
from tests.conftest import PASSWORD, empty_tables
from tests.servers import running_service
from tests.test_settings import GOOD

pytestmark = pytest.mark.system

if TYPE_CHECKING:
    from schemathesis.specs.openapi.schemas import OpenApiOperation


class Visitor:
    """A user of the service who logs in again after having logged out of everything."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._form = {"username": "ada@example.com", "password": PASSWORD}
        body = {"email": self._form["username"], "password": PASSWORD}
        client.post("/api/v1/users", json=body).raise_for_status()
        self._headers: dict[str, str] = {}

    def headers(self) -> dict[str, str]:
        if self._client.get("/api/v1/users/me", headers=self._headers).status_code != 200:
            pair = (
                self._client.post("/api/v1/auth/token", data=self._form).raise_for_status().json()
            )
            self._headers = {"Authorization": f"Bearer {pair['access_token']}"}
        return self._headers


@pytest.fixture(scope="module")
def service_url(settings: Settings, migrated: None) -> Iterator[str]:
    with running_service(settings) as url:
        yield url
    empty_tables(settings)


@pytest.fixture(scope="module")
def visitor(service_url: str) -> Iterator[Visitor]:
    with Client(base_url=service_url) as client:
        yield Visitor(client)


api = from_dict(create_app(Settings.model_validate(GOOD)).openapi())


@api.parametrize()
@hypothesis(
    max_examples=15,
    deadline=None,
    database=None,
    # The same requests every time: a failure in CI is one that can be had again.
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_service_does_what_its_document_says(
    case: "Case[OpenApiOperation]", service_url: str, visitor: Visitor
) -> None:
    # Common passwords and mail domains that do not exist are refused: no schema can say so.
    case.call_and_validate(
        base_url=service_url,
        headers=visitor.headers(),
        excluded_checks=[positive_data_acceptance],
    )
