"""Settings out of TOML files and flags: which wins, and how a wrong key or value is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonearm import settings
from tonearm.errors import SettingsError
from tonearm.settings import TagSettings, build, merge, read_toml


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'precison'; did you mean 'precision'\?"):
        build(TagSettings, {"models": {"precison": "fp32"}})


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_text("workers = 3\n[models]\nprecision = 'bf16'\nbatch_size = 2\n")
    merged = merge(read_toml(tmp_path / "t.toml"), {"workers": None, "models": {"precision": "fp32", "runtime": None}})
    built = build(TagSettings, merged)
    assert (built.workers, built.models.precision, built.models.batch_size) == (3, "fp32", 2)
    assert built.models.genre_model == settings.GENRE_MODEL


def test_a_file_that_is_missing_or_not_toml_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no settings file"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("workers = = 3")
    with pytest.raises(SettingsError, match="not TOML"):
        read_toml(tmp_path / "bad.toml")


def test_what_is_no_text_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bytes.toml").write_bytes(b"limit = '\xff'")
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    for name, message in (("bytes.toml", "not TOML"), ("deep.toml", "not TOML"), (".", "cannot be read")):
        with pytest.raises(SettingsError, match=message):
            read_toml(tmp_path / name)


@pytest.mark.parametrize("text", ["models = 'demo'", "serve = 3", "train = [1]"])
def test_a_value_where_a_table_should_be_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"expected a table: \[(models|serve|train)\]"):
        read_toml(tmp_path / "t.toml")


def test_flags_for_a_table_that_is_none_leave_it_to_be_refused() -> None:
    with pytest.raises(SettingsError, match="expected a table of settings"):
        build(TagSettings, merge({"fetch": 3}, {"fetch": {"timeout_s": 2.0}}))
