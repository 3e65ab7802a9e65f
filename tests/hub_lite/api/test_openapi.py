"""The API describes itself."""

import re
from typing import Any

from hub_lite.api.openapi import endpoints

from .conftest import Api


async def document_of(api: Api) -> dict[str, Any]:
    document: dict[str, Any] = (await api.ask("GET", "/openapi.json")).json
    return document


async def test_every_route_is_described(api: Api) -> None:
    document = await document_of(api)
    described = {
        (method.upper(), path) for path, operations in document["paths"].items() for method in operations
    }
    from hub_lite.app import make_application

    routed = set()
    for route in make_application(api.hub).router.routes():
        found = route.resource.get_info() if route.resource is not None else {}
        path = found.get("path") or found.get("formatter")
        if path is not None and path.startswith("/api/v1/"):
            routed.add((route.method, path.removeprefix("/api/v1")))
    assert described == routed
    assert {("GET", "/version"), ("PUT", "/sequence/{id}"), ("HEAD", "/log")} <= described


async def test_every_operation_has_a_name_of_its_own_a_summary_and_answers(api: Api) -> None:
    document = await document_of(api)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    for operation in operations:
        assert re.fullmatch(r"\w+", operation["operationId"])
        assert operation["summary"].endswith(".")
        assert operation["responses"].keys() == {"2XX", "4XX", "5XX"}
        assert operation["responses"]["4XX"] == {"$ref": "#/components/responses/Error"}


async def test_every_parameter_of_a_path_is_described(api: Api) -> None:
    document = await document_of(api)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert re.findall(r"\{(\w+)\}", path) == [one["name"] for one in operation["parameters"]]
            assert all(one["in"] == "path" and one["required"] for one in operation["parameters"])


async def test_a_choice_in_a_path_is_an_enumeration(api: Api) -> None:
    found = {path: parameters for _, path, parameters in endpoints(_router(api))}
    choices = [
        schema["enum"] for parameters in found.values() for schema in parameters.values() if "enum" in schema
    ]
    assert ["output", "stdout", "stderr", "log"] in choices


def _router(api: Api) -> Any:
    from hub_lite.app import make_application

    return make_application(api.hub).router


async def test_bodies_that_need_members_say_so(api: Api) -> None:
    paths = (await document_of(api))["paths"]
    event = paths["/instance/{id}/_event"]["post"]["requestBody"]
    assert event["required"] is True
    assert event["content"]["application/json"]["schema"]["required"] == ["eventName"]
    start = paths["/sequence/{id}/start"]["post"]["requestBody"]
    assert start["required"] is False
    assert set(paths["/sequence"]["post"]["requestBody"]["content"]) == {"application/octet-stream"}
    assert "text/plain" in paths["/topic/{name}"]["post"]["requestBody"]["content"]
    assert "requestBody" not in paths["/sequences"]["get"]
    assert "requestBody" not in paths["/instance/{id}/_reload"]["post"]
    value = paths["/instance/{id}/state/{key}"]["put"]["requestBody"]
    assert (value["required"], set(value["content"])) == (True, {"application/json"})
    records = paths["/instance/{id}/quarantine"]["post"]["requestBody"]["content"]
    assert records["application/x-ndjson"]["schema"]["required"] == ["error"]


async def test_the_document_is_openapi(api: Api) -> None:
    document = await document_of(api)
    assert document["openapi"] == "3.1.0"
    assert document["servers"] == [{"url": "/api/v1"}]
    error = document["components"]["schemas"]["Error"]
    answer = await api.ask("GET", "/instance/none")
    assert answer.json.keys() <= error["properties"].keys()
    assert document["components"]["securitySchemes"] == {"token": {"type": "http", "scheme": "bearer"}}
