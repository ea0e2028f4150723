"""The OpenAPI document names what the routes take and answer."""

from __future__ import annotations

from tests.apps import App


def test_the_document_says_what_is_taken(app: App) -> None:
    paths = app.ask("GET", "/openapi.json").json()["paths"]
    for path, operations in paths.items():
        assert ("get" in operations) == ("head" in operations)
        for operation in operations.values():
            assert {"400", "403", "431"} <= set(operation["responses"]), path
    assert not any("content" in answer for answer in paths["/healthz"]["head"]["responses"].values())
    operations = [operation for methods in paths.values() for operation in methods.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    classify = paths["/models/{name}"]["post"]
    assert {entry["name"] for entry in classify["parameters"]} == {"name", "top_k", "function_to_apply", "max_windows"}
    bodies = {"application/octet-stream", "audio/*", "multipart/form-data"}
    assert set(classify["requestBody"]["content"]) == {*bodies, "application/json"}
    assert set(paths["/v1/tag"]["post"]["requestBody"]["content"]) == bodies
    assert "415" in paths["/v1/tag"]["post"]["responses"]
