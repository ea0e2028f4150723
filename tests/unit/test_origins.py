"""Origins are compared as browsers send them, and what is no origin is refused at the start."""

from __future__ import annotations

import re

import pytest

from tonearm.errors import SettingsError
from tonearm.origins import canonical_origin, split_host
from tonearm.settings import ServeSettings, build


@pytest.mark.parametrize(
    ("origin", "says"),
    [
        ("https://music.example/", "without a path: https://music.example"),
        ("https://music.example/app", "without a path: https://music.example"),
        ("music.example", "it has no scheme"),
        ("null", "sandboxed pages"),
        ("https://*.example", "named in full"),
        ("https://m\xfcsik.example", "xn--"),
        ("https://music.example:99999", "is not a host with a port"),
        ("https://user@music.example", "is not a host with a port"),
        ("", "it has no scheme"),
    ],
)
def test_what_is_no_origin_is_refused_at_the_start(origin: str, says: str) -> None:
    with pytest.raises(SettingsError, match=r"serve\.allow_origins: got .*" + re.escape(says)):
        build(ServeSettings, {"allow_origins": [origin]})


def test_origins_are_compared_as_browsers_send_them() -> None:
    assert canonical_origin("HTTPS://Music.Example:443") == "https://music.example"
    assert canonical_origin("http://[0:0::1]:8000") == "http://[::1]:8000"
    assert canonical_origin("chrome-extension://abcdef") == "chrome-extension://abcdef"
    assert split_host("LOCALHOST.:80") == ("localhost", 80)
