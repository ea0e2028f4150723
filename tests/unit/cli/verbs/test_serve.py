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
    settings = serve_settings(given)
    assert (settings.host, settings.port, settings.max_windows, settings.engine) == ("::1", 9000, 2, "ray")
    assert (settings.allow_uris, settings.allow_origins, settings.root_path) == (("s3://a/", "s3://b/"), ("*",), "/t")
    assert (settings.rate_limit, settings.access_log, settings.api_key_file) == ("5/minute", "log", "keys")
