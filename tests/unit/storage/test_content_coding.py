"""Bodies are unpacked as their coding says, however they are cut, and never further than asked for."""

from __future__ import annotations

import gzip
import zlib

import pytest

from tonearm.errors import FetchError
from tonearm.storage.content_coding import PIECE_BYTES, codings, unpacked, unpacker

BODY = bytes(range(256)) * 2000
RAW = zlib.compressobj(wbits=-zlib.MAX_WBITS)
PACKED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY[:1000]) + bytes(3) + gzip.compress(BODY[1000:]),
    "deflate": zlib.compress(BODY),
    "Deflate": RAW.compress(BODY) + RAW.flush(),
}


@pytest.mark.parametrize("coding", PACKED)
@pytest.mark.parametrize("num_bytes", [1, 7, 10**6])
def test_a_body_is_the_same_however_it_is_cut(coding: str, num_bytes: int) -> None:
    unpacking = unpacker(coding)
    assert unpacking is not None
    data = PACKED[coding]
    parts = [data[start : start + num_bytes] for start in range(0, len(data), num_bytes)]
    assert b"".join(piece for part in parts for piece in unpacking.feed(part)) == BODY
    unpacking.end()


@pytest.mark.parametrize("coding", PACKED)
def test_a_body_that_ends_early_fails(coding: str) -> None:
    with pytest.raises(FetchError, match="ends early") as caught:
        unpacked(PACKED[coding][:-5], coding, len(BODY) + 1)
    assert caught.value.code == "fetch_failed"


def test_a_small_body_that_stands_for_a_large_one_is_unpacked_in_pieces() -> None:
    bomb = gzip.compress(bytes(64 * PIECE_BYTES))
    assert unpacked(bomb, "gzip", 10) == bytes(10)
    unpacking = unpacker("gzip")
    assert unpacking is not None
    assert len(next(iter(unpacking.feed(bomb)))) <= PIECE_BYTES


def test_several_codings_are_undone_from_the_last_to_the_first() -> None:
    assert unpacked(gzip.compress(zlib.compress(BODY)), "deflate, gzip", len(BODY) + 1) == BODY


def test_names_that_are_no_codings_mean_nothing() -> None:
    assert codings("none, utf-8,  GZIP ,zstd") == ["gzip", "zstd"]
    assert unpacked(BODY, "utf-8", len(BODY)) == BODY


def test_a_coding_that_is_not_undone_here_is_named() -> None:
    assert unpacker("zstd") is None
    with pytest.raises(FetchError, match="packed as zstd, expected gzip or deflate"):
        unpacked(BODY, "zstd", len(BODY))


def test_what_follows_a_gzip_member_must_be_another_one() -> None:
    with pytest.raises(FetchError, match="not gzip, as it says"):
        unpacked(gzip.compress(BODY) + b"garbage", "gzip", len(BODY) + 1)
