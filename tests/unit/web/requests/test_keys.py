from __future__ import annotations

from pathlib import Path

import pytest

from tonearm.errors import SettingsError
from tonearm.web.requests.keys import FILE_VARIABLE, KEYS_VARIABLE, LINE_LABEL, holder, new_key, read_keys


def test_a_key_is_known_by_its_digest_alone() -> None:
    (key, line), (_, other) = new_key("app"), new_key("other")
    assert key not in line
    assert holder(key, [other, line]) == "app"
    assert holder(key, [other]) is None
    for wrong in ("", key[:-1], key + " ", line, line.partition(":")[2]):
        assert holder(wrong, [line]) is None


def test_keys_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [new_key(name).line for name in ("a", "b", "c", "d")]
    file = tmp_path / "keys"
    file.write_text(f"# made on Monday\n{lines[2]}  # the app\n\n{lines[3]}\n")
    monkeypatch.setenv(KEYS_VARIABLE, f" {lines[1]}, {lines[0]}")
    monkeypatch.setenv(FILE_VARIABLE, str(file))
    assert set(read_keys([lines[0]], None)) == set(lines)


@pytest.mark.parametrize("pasted", ["app:{key}", "{key}", '"{key}"', "key, shown this once: {key}", "app:{key}:x"])
def test_a_key_in_the_place_of_its_digest_is_refused_and_not_shown(tmp_path: Path, pasted: str) -> None:
    key, line = new_key("app")
    with pytest.raises(SettingsError, match="got a key itself, expected its line NAME:SHA256") as caught:
        read_keys([pasted.format(key=key)], None)
    assert key not in caught.value.message
    (tmp_path / "keys").write_text(f"{line}\n\n{pasted.format(key=key)}\n")
    with pytest.raises(SettingsError, match="keys, line 3: got a key itself") as caught:
        read_keys([], str(tmp_path / "keys"))
    assert key not in caught.value.message


def test_lines_as_they_were_printed_or_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole printed line, quotes, a byte order mark and capital digits are all understood."""
    lines = [new_key(name).line for name in ("a", "b", "c", "d")]
    file = tmp_path / "keys"
    name, _, digits = lines[1].partition(":")
    file.write_text(f'\ufeff{LINE_LABEL} {lines[0]}\r\n{name}:{digits.upper()}\n"{lines[2]}"\n')
    monkeypatch.setenv(KEYS_VARIABLE, f"{LINE_LABEL} {lines[3]}")
    assert set(read_keys([], str(file))) == set(lines)


@pytest.mark.parametrize(("line", "says"), [("a" * 64, "a digest without a name"), ("app:abc", "is not NAME:SHA256")])
def test_a_malformed_line_of_a_key_file_is_refused(line: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_keys([line], None)


def test_names_and_files_that_make_no_key(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(SettingsError, match="has no key"):
        read_keys([], str(tmp_path / "empty"))
    for name in ("two words", "-x", "", "x" * 65):
        with pytest.raises(SettingsError, match=f"got '{name}' for a key's name"):
            new_key(name)
    assert new_key("x" * 64).line.startswith("x" * 64 + ":")
