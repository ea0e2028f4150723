from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.errors import SettingsError
from tonearm.web.keys import FILE_VARIABLE, KEYS_VARIABLE, holder, new_key, read_keys


def test_a_key_is_known_by_its_digest_alone() -> None:
    (key, line), (_, other) = new_key("app"), new_key("other")
    assert key not in line
    assert holder(key, [other, line]) == "app"
    assert holder(key, [other]) is None
    for wrong in ("", key[:-1], key + " ", line, line.partition(":")[2]):
        assert holder(wrong, [line]) is None


def test_keys_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [new_key(name)[1] for name in ("a", "b", "c", "d")]
    file = tmp_path / "keys"
    file.write_text(f"# made on Monday\n{lines[2]}  # the app\n\n{lines[3]}\n")
    monkeypatch.setenv(KEYS_VARIABLE, f" {lines[1]}, {lines[0]}")
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    assert set(read_keys([lines[0]], None)) == set(lines)


def test_a_key_in_the_place_of_its_digest_is_refused_and_not_shown(tmp_path: Path) -> None:
    key, _ = new_key("app")
    with pytest.raises(SettingsError, match="expected what `tonearm serve --new-key NAME` prints") as caught:
        read_keys([f"app:{key}"], None)
    assert key not in caught.value.message
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(SettingsError, match="has no key"):
        read_keys([], str(tmp_path / "empty"))
    with pytest.raises(SettingsError, match="NAME:SHA256"):
        new_key("two words")
