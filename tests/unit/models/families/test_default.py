"""A family that nobody has added takes windows of any length."""

from __future__ import annotations

from tonearm.models.families import family_of
from tonearm.models.families.default import DefaultFamily


def test_a_family_that_nobody_has_added_is_the_default_one() -> None:
    family = family_of("some-transformers-family")
    assert type(family) is DefaultFamily
    assert family.min_samples({"conv_kernel": [10, 8, 4], "conv_stride": [5, 8, 4]}) == 400
    assert family.min_samples({"conv_kernel": [10, 300], "conv_stride": [5, 8]}) == 1505
    assert family.min_samples({}) == 400 and family.native_window_s({}, {}, 16000) is None
