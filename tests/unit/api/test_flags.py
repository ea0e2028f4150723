"""The one rule by which a TOML file's tables and keywords become the settings of a verb."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.api.flags import ModelFlags, of_verb, serve_settings, tag_settings, train_settings
from tonearm.errors import SettingsError, UsageError


def test_flags_and_the_shared_tables_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tonearm.toml").write_text(
        "max_windows = 3\n[models]\nbatch_size = 4\n[train]\nepochs = 2\n[serve]\nport = 9000\nmax_queue = 7\n"
    )
    settings = serve_settings({"port": 9001, "tag_model": "none"})
    assert (settings.port, settings.max_queue, settings.models.batch_size) == (9001, 7, 4)
    assert settings.models.tag_model is None
    assert settings.max_windows is None  # tagging's own
    with pytest.raises(UsageError, match="got --demo-models together with"):
        serve_settings({"genre_model": "x", "demo_models": True})


def test_a_verbs_table_goes_over_the_shared_ones(file: Path) -> None:
    tagging, serving, training = (
        tag_settings({"config": file}), serve_settings({"config": file}), train_settings({"config": file}),
    )  # fmt: skip
    assert (tagging.limit, tagging.models.precision, tagging.models.batch_size) == (9, "bf16", 4)
    assert (serving.port, serving.models.batch_size, serving.fetch.timeout_s) == (9000, 2, 8.0)
    assert (training.epochs, training.fetch.timeout_s, tagging.fetch.timeout_s) == (2, 7.0, 7.0)


def test_flags_go_over_the_file(file: Path) -> None:
    assert tag_settings({"config": file, "limit": 1, "precision": "fp32"}).limit == 1
    assert tag_settings({"config": file, "precision": "fp32"}).models.precision == "fp32"
    assert tag_settings({"config": file, "limit": None}).limit == 9


def test_keys_above_all_tables_are_settings_of_tagging_as_in_0_1_0(file: Path) -> None:
    assert tag_settings({"config": file}).workers == 3
    assert train_settings({"config": file}).workers is None
    assert of_verb({"max_windows": 3}, "serve", is_named=True) == {}


def test_a_file_without_a_train_table_is_all_of_training_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tonearm.toml").write_text("epochs = 4\n[fetch]\ntimeout_s = 7.0\n")
    assert train_settings({"config": tmp_path / "tonearm.toml"}).epochs == 4
    monkeypatch.chdir(tmp_path)
    settings = train_settings({})
    assert (settings.epochs, settings.fetch.timeout_s) == (10, 7.0)


def test_the_file_of_the_folder_is_read_without_one_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.rename(file.with_name("tonearm.toml"))
    monkeypatch.chdir(file.parent)
    assert tag_settings({}).limit == 9


@pytest.mark.parametrize("text", ["tag = 3", "[tag]\nlimt = 3"])
def test_a_wrong_table_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(SettingsError, match=r"expected a table: \[tag\]|did you mean 'limit'"):
        tag_settings({"config": tmp_path / "t.toml"})


def test_none_turns_a_head_off() -> None:
    settings = tag_settings({"tag_model": "none", "genre_model": Path("models/genre")})
    assert (settings.models.tag_model, settings.models.genre_model) == (None, "models/genre")
    with pytest.raises(UsageError, match="got --demo-models together"):
        tag_settings({"demo_models": True, "tag_model": "none"})


@pytest.mark.parametrize("keyword", ["heads", "fallback"])
def test_models_by_something_else_than_a_name_are_refused(keyword: str) -> None:
    with pytest.raises(SettingsError, match=f"got {keyword}={{5: 'x'}}, expected models by name"):
        tag_settings({keyword: {5: "x"}})


def test_any_setting_of_training_by_its_name() -> None:
    settings = train_settings({"set": {"augment.mixup": 0.3, "model": "small-ast"}, "tracker": ["none"], "epochs": 2})
    assert (settings.augment.mixup, settings.model, settings.trackers, settings.epochs) == (0.3, "small-ast", (), 2)
    assert train_settings({"label_by": "genre", "test_on": ("4", "5")}).labels.test_on == ("4", "5")


def test_an_unknown_keyword_names_the_nearest() -> None:
    with pytest.raises(TypeError, match=r"tonearm.tag\(\) has no keyword genre_modell; did you mean genre_model\?"):
        tag_settings({"genre_modell": "x"})
    with pytest.raises(TypeError, match=r"Tagger\(\) has no keyword workers"):
        tag_settings({"workers": 2}, ModelFlags, verb="Tagger")
