"""The figures of the report equal what pandas counts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.tables import rows_of
from tonearm.report.figures import gather


def test_figures_equal_what_pandas_counts(library: Path) -> None:
    figures, rows = gather(str(library)), rows_of(library)
    ok = rows[rows["status"] == "ok"]
    assert (figures.num_ok, figures.num_error) == (len(ok), len(rows) - len(ok))
    assert figures.num_unlisted == figures.num_outranked == 0
    assert figures.audio_s == pytest.approx(ok["duration_s"].sum())
    assert figures.scored_s == pytest.approx((ok["duration_s"] * ok["coverage"]).sum())
    assert figures.num_partial == (ok["coverage"] < 0.999).sum()
    assert figures.num_bytes == rows["size_bytes"].sum()
    assert sorted(figures.durations_s) == pytest.approx(sorted(ok["duration_s"]), rel=1e-6)
    assert sorted(figures.genre_scores) == pytest.approx(sorted(ok["genre_score"]))
    by_genre = ok.groupby("genre").agg(n=("uri", "size"), audio=("duration_s", "sum"), score=("genre_score", "mean"))
    assert {name: group.num_tracks for name, group in figures.genres.items()} == by_genre["n"].to_dict()
    for name, group in figures.genres.items():
        assert group.audio_s == pytest.approx(by_genre.loc[name, "audio"])
        assert group.mean_score == pytest.approx(by_genre.loc[name, "score"], rel=1e-5)
    tags = pd.json_normalize(ok["tags"].explode().tolist())
    assert {name: tag.num_tracks for name, tag in figures.tags.items()} == (
        tags.assign(strong=tags["score"] >= 0.5).groupby("label")["strong"].sum().to_dict()
    )
    for name, mean in tags.groupby("label")["score"].mean().items():
        assert figures.tags[str(name)].mean_score == pytest.approx(mean, rel=1e-5)
    formats = ok.groupby(["codec", "sample_rate", "channels"]).size().to_dict()
    assert {key: group.num_tracks for key, group in figures.formats.items()} == formats
    codes = rows["error_code"].value_counts().to_dict()
    assert {code: failure.num_tracks for code, failure in figures.failures.items()} == codes
    assert figures.tracks["uri"].to_pylist() == sorted(ok["uri"])
    failed = rows[rows["status"] == "error"].sort_values("uri")
    assert figures.failed.to_pydict() == failed[["uri", "error_code", "error_message"]].to_dict("list")
    doubtful = ok.sort_values(["genre_score", "uri"])["uri"].tolist()[:20]
    assert figures.least_confident["uri"].to_pylist() == doubtful
