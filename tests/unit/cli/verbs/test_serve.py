"""Flags of ``serve`` become the settings of the library."""

from __future__ import annotations

from typing import Any

from tests.unit.cli.verbs.conftest import run
from tonearm.api.flags import serve_settings


def test_serving_gets_its_settings(given: dict[str, Any]) -> None:
    run(
        "serve --host ::1 --port 9000 --tag-model none --max-windows 2 --allow-uri s3://a/ --allow-uri s3://b/ "
        "--allow-origin * --root-path /t --rate-limit 5/minute --access-log log --engine ray --api-key-file keys"
    )
    found = serve_settings(given)
    assert (found.host, found.port, found.max_windows, found.engine) == ("::1", 9000, 2, "ray")
    assert (found.allow_uris, found.allow_origins, found.root_path) == (("s3://a/", "s3://b/"), ("*",), "/t")
    assert (found.rate_limit, found.access_log, found.api_key_file) == ("5/minute", "log", "keys")
