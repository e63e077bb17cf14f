"""The OpenAPI document, completed: what FastAPI leaves out or cannot know."""

from typing import cast

from fastapi import FastAPI

from app.errors import Problem

TOKEN_PATH = "/api/v1/auth/token"  # noqa: S105 (a path, not a secret)


class DocumentedFastAPI(FastAPI):
    """FastAPI, with the schema of problems and an Authorize button that works below a root path."""

    def openapi(self) -> dict[str, object]:
        document = cast("dict[str, dict[str, dict[str, object]]]", super().openapi())
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(problem.pop("$defs") | {"Problem": problem})
        for scheme in components.get("securitySchemes", {}).values():
            # Clients resolve it against the host, not against the root path.
            flows = cast("dict[str, dict[str, dict[str, str]]]", scheme)["flows"]
            flows["password"]["tokenUrl"] = self.root_path + TOKEN_PATH
        return cast("dict[str, object]", document)
