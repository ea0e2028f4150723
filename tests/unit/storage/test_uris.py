"""The forms of a URI: whatever is written there is taken apart, and shown without credentials, and nothing raises."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from tests.uris import uris
from tonearm.sources.listing import source_name
from tonearm.sources.track_ref import make_ref
from tonearm.storage.allowed_uris import AllowedUris
from tonearm.storage.filenames import track_name
from tonearm.storage.uris import folder_of, local_path, local_uri, resolve, scrubbed, shown, split_url, to_unicode

MALFORMED = [
    *("http://[::1/x.mp3", "http://]/", "http://[v1.a]/x", "https://ex\u2100mple.org/a", "http://h:abc/x", "http://"),
    *("file://[x/a.mp3", "file:///\udcff", "file:///\ud800", "file:///a%00b", "~\x00/a", "~\ud800", "\x00", "", "://"),
    *("s3://[/a", "s3://\ud800/b", "hf://datasets/[", "http://h/%zz?%zz#%zz", "http://h\n/a", "HTTP://[/A"),
]
ALLOWED = AllowedUris(["https://host/a/"])


def use(uri: str) -> None:
    """Do with a URI what is done before its object is read, and encode what would be written down."""
    for text in (shown(uri), scrubbed(uri), to_unicode(uri), local_uri(local_path(uri)), source_name(to_unicode(uri))):
        text.encode()
        assert isinstance(text, str)
    assert "\n" not in shown(uri)
    for folder in ("/music/", "s3://bucket/lists/"):
        to_unicode(resolve(uri, folder)).encode()
    assert isinstance(folder_of(uri), str) and isinstance(track_name(uri), str)
    assert isinstance(split_url(uri).place, str)
    assert make_ref(uri).track_key == make_ref(uri).track_key
    # What is allowed is what begins like the only prefix, however its scheme and host are written.
    assert not ALLOWED.covers(uri) or uri.casefold().startswith("https:")


@pytest.mark.parametrize("uri", MALFORMED)
def test_malformed_uris_are_taken_apart(uri: str) -> None:
    use(uri)


@hypothesis.settings(max_examples=2000)
@hypothesis.given(uris())
def test_whatever_a_uri_is_nothing_raises(uri: str) -> None:
    use(uri)


@hypothesis.given(st.text(), st.sampled_from(["http", "https", "ftp", "s3"]))
def test_no_password_is_shown(end: str, kind: str) -> None:
    assert "PASSWORD" not in shown(f"{kind}://user:PASSWORD@host/{end.replace('@', '')}")


@pytest.mark.parametrize(
    "uri",
    [
        *(
            "https://u:PASSWORD@host/a",
            "https://u:PASSWORD@[::1/a",
            "https://u:PASS/PASSWORD@host/a",
            "ftp://u:PASSWORD@h/a",
        ),
        *(
            "https://host/a?sig=PASSWORD",
            "https://h:1?sig=PASSWORD",
            " https://u:PASSWORD@host/a",
            "https:/u:PASSWORD@host/a",
        ),
        *(
            "simplecache::https://u:PASSWORD@host/a?sig=PASSWORD",
            "https://[x?sig=PASSWORD",
            "https://u:PASS?PASSWORD@host/",
        ),
    ],
)
def test_what_may_be_secret_is_left_out(uri: str) -> None:
    assert "PASSWORD" not in shown(uri)


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("https://host:8000/a b.mp3?x#y", "https://host:8000/a b.mp3"),
        ("https://[::1]:8000/a.mp3", "https://[::1]:8000/a.mp3"),
        ("http://[::1/x.mp3", "http://[::1/x.mp3"),
        ("s3://bucket/what? #1@2.mp3", "s3://bucket/what? #1@2.mp3"),
        ("abfs://container@account/a", "abfs://container@account/a"),
        ("/music/a@b?.mp3", "/music/a@b?.mp3"),
        ("/new\nline", "/new\\nline"),
    ],
)
def test_the_rest_is_shown(uri: str, says: str) -> None:
    assert shown(uri) == says


def test_what_is_not_unicode_becomes_percent_escapes() -> None:
    assert to_unicode("http://h/\u00e9\udce9\ud800") == "http://h/\u00e9%E9%ED%A0%80"


def test_relative_uris_beside_a_table_in_a_bucket() -> None:
    assert resolve("a/../b c.mp3", "s3://bucket/lists/") == "s3://bucket/lists/b c.mp3"
    assert resolve("../up.mp3", "s3://bucket/lists/") == "s3://bucket/up.mp3"
    assert resolve("s3a://other/x.mp3", "s3://bucket/") == "s3://other/x.mp3"
    assert resolve("file:///a%20b.mp3", "s3://bucket/") == "/a b.mp3"


def test_messages_hold_no_credentials() -> None:
    assert shown("https://user:pass@host/a.mp3?X-Amz-Signature=abc") == "https://host/a.mp3"
    assert "abc" not in scrubbed("denied for https://u:abc@h/x?Signature=abc secret=abc AccessKeyId: abc")
