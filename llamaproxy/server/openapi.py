"""The description of /api as an OpenAPI 3.1 document, written from its table of routes.

Pure. Owns the shape of the document; what the routes take and answer is in the table. Source: OpenAPI Specification
3.1.1.
"""

from collections import defaultdict
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from llamaproxy import __version__
from llamaproxy.errors import (
    Forbidden,
    ForbiddenOrigin,
    GatewayError,
    InvalidApiKey,
    InvalidJson,
    InvalidRequest,
    RequestTimeout,
    RequestTooLarge,
    UnsupportedMediaType,
)
from llamaproxy.server.routes import Nothing, Route

_TEMPLATE = "#/components/schemas/{model}"
_ALWAYS = (InvalidApiKey, Forbidden)
_CHANGING = (InvalidJson, InvalidRequest, ForbiddenOrigin, RequestTimeout, RequestTooLarge, UnsupportedMediaType)
_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {"message": _TEXT, "type": _TEXT, "param": _MAYBE_TEXT, "code": _TEXT, "detail": _TEXT},
        }
    },
}

Document = dict[str, Any]


class _Schemas(GenerateJsonSchema):
    """Without defaults: what is not named in a change stays as it is."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def describe(routes: Iterable[Route]) -> Document:
    """The whole document."""
    table = list(routes)
    schemas, definitions = _schemas(table)
    paths: dict[str, Document] = defaultdict(dict)
    for route in table:
        paths[route.path][route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "llamaproxy",
            "version": __version__,
            "description": "What an operator sees of a gateway, and can do to it.",
        },
        "paths": dict(paths),
        "components": {
            "schemas": {**definitions, "Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"key": []}],
    }


Schemas = dict[tuple[int, JsonSchemaMode], JsonSchemaValue]


def _schemas(table: list[Route]) -> tuple[Schemas, Document]:
    """The schemas of answers and bodies, by the identity of their types, and what they refer to by name."""
    kinds: dict[tuple[int, JsonSchemaMode], Any] = {}
    for route in table:
        kinds[id(route.answer), "serialization"] = route.answer
        if route.unsafe:
            kinds[id(route.body or Nothing), "validation"] = route.body or Nothing
    wanted = [(key, key[1], TypeAdapter(kind)) for key, kind in kinds.items()]
    found, document = TypeAdapter.json_schemas(wanted, ref_template=_TEMPLATE, schema_generator=_Schemas)
    return {key: schema for (key, _), schema in found.items()}, document.get("$defs", {})


def _operation(route: Route, schemas: Schemas) -> Document:
    operation: Document = {"operationId": _operation_id(route), "summary": route.title}
    if route.description:
        operation["description"] = route.description
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.unsafe:
        schema = schemas[id(route.body or Nothing), "validation"]
        operation["requestBody"] = {"required": bool(route.body), "content": _json(schema)}
    done = {"description": "Done.", "content": _content(route.media, schemas[id(route.answer), "serialization"])}
    operation["responses"] = {str(route.status): done, **_failures(route)}
    return operation


def _parameters(route: Route) -> list[Document]:
    named = [part.strip("{}") for part in route.parts if part.startswith("{")]
    return [
        *({"name": name, "in": "path", "required": True, "schema": {**_TEXT, "minLength": 1}} for name in named),
        *(
            {"name": parameter.name, "in": "query", "description": parameter.description, "schema": parameter.schema}
            for parameter in route.query
        ),
    ]


def _failures(route: Route) -> dict[str, Document]:
    """One answer for each status, which names its codes."""
    codes: dict[int, dict[str, None]] = defaultdict(dict)
    errors: tuple[type[GatewayError], ...] = (*route.errors, *_ALWAYS, *(_CHANGING if route.unsafe else ()))
    for error in errors:
        codes[error.status][f"`{error.code}`"] = None
    return {str(status): _failure(status, list(codes[status])) for status in sorted(codes)}


def _failure(status: int, codes: list[str]) -> Document:
    phrase = HTTPStatus(status).phrase
    return {"description": f"{phrase}: {', '.join(codes)}", "content": _json({"$ref": "#/components/schemas/Error"})}


def _operation_id(route: Route) -> str:
    words = [part.strip("{}").replace("-", "_").replace(".", "_") for part in route.parts[1:]]
    return "_".join([route.method.lower(), *words])


def _json(schema: JsonSchemaValue) -> Document:
    return _content("application/json", schema)


def _content(media: str, schema: JsonSchemaValue) -> Document:
    return {media: {"schema": schema}}
