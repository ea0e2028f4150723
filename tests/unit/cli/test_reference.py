"""The docs' pages of verbs and settings are made from the command and the settings, and say something of each."""

from __future__ import annotations

import markdown
import pytest

from tonearm.cli.reference import SECTIONS, environment_markdown, setting_rows, settings_markdown, verbs, verbs_markdown


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_says_what_it_is(section: str) -> None:
    silent = [key for key, _, _, _, text in setting_rows(SECTIONS[section][0]) if not text]
    assert not silent, f"say in the docstring's Attributes what these are: {', '.join(silent)}"


def test_settings_have_type_default_and_flag() -> None:
    text = settings_markdown()
    assert "| `max_error_rate` | number ≥ 0, ≤ 1 | `0.1` | `--max-error-rate` |" in text
    assert '| `runtime` | "auto", "torch", "openvino" | `"auto"` | `--runtime` |' in text
    assert "## `[train.labels]`" in text


def test_every_verb_and_option_is_there() -> None:
    text = verbs_markdown()
    for path, command in verbs():
        assert f"## {path}\n" in text
        assert all(option in text for given in command.params for option in given.opts if option.startswith("--"))


def test_the_variables_are_there_with_who_reads_them() -> None:
    assert "| `RAY_ADDRESS` | The Ray cluster to join;" in environment_markdown()
    assert "| s3fs |" in environment_markdown()


def test_choices_are_shown_without_backslashes_and_split_no_cell() -> None:
    """``--runtime auto\\|torch`` is what somebody would copy from the page."""
    page = markdown.markdown(verbs_markdown() + settings_markdown(), extensions=["tables"])
    assert "<code>--runtime auto|torch|openvino</code>" in page
    assert "\\|" not in page
    assert {row.count("<td>") for row in page.split("<tr>")[1:]} == {0, 2, 5}
