"""Generated URIs: mostly nearly right ones, which reach further than noise does."""

from __future__ import annotations

import hypothesis.strategies as st

KINDS = (
    "http",
    "https",
    "HTTP",
    "s3",
    "s3a",
    "file",
    "hf",
    "arrow+file",
    "memory",
    "ftp",
    "x",
    "data",
    "gs",
    "az",
    "local",
)
PLACES = (
    *(
        "127.0.0.1:9",
        "127.0.0.1:99999",
        "127.0.0.1:abc",
        "127.0.0.1:9:80",
        "[::1",
        "[::1]:9",
        "]",
        "[v1.a]",
        "[fe80::1%25lo]:9",
    ),
    *(
        "a..b",
        ".a",
        "a" * 70 + ".example",
        "xn--",
        "ex\u2100mple.org",
        "ho st",
        "\x00",
        "user:pw@",
        "",
        "bucket",
        "B_AD",
        "%31",
    ),
    *("127.1", "0x7f.1", "datasets", "user:pw@127.0.0.1:9", "127.0.0.1:0"),
)
PARTS = (
    *(
        "a.mp3",
        "..",
        ".",
        "",
        "%00",
        "\x00",
        "a\nb",
        "\u00e9",
        "%",
        "%zz",
        "?x=1",
        "#1",
        "[2001] *",
        "~",
        "k" * 300,
        ";",
        "@",
    ),
    *("C:\\a", " ", "dev/zero", "tmp", "proc/self/mem", "etc/hostname/x", "\U0001f3b5"),
)


def uris() -> st.SearchStrategy[str]:
    """Return a strategy for URIs and paths, malformed ones among them."""
    path = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=5)), max_size=4).map("/".join)
    # Text as it comes from a file that is not UTF-8, too.
    text = st.text(st.characters(exclude_categories=()), max_size=30)
    url = st.builds("{}://{}/{}".format, st.sampled_from(KINDS), st.one_of(st.sampled_from(PLACES), text), path)
    return st.one_of(url, url, path, st.builds("/{}".format, path), st.builds("{}{}".format, url, text), text)
