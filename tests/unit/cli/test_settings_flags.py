"""The table of flags names fields that exist, and the command has each flag."""

from __future__ import annotations

import dataclasses

from tonearm.cli.reference import verbs_markdown
from tonearm.cli.settings_flags import FLAGS, flag_name


def test_flags_are_of_fields_that_there_are() -> None:
    for kind, flags in FLAGS.items():
        assert set(flags) <= {field.name for field in dataclasses.fields(kind)}


def test_each_settings_flag_is_an_option_of_the_command() -> None:
    text = verbs_markdown()
    names = [flag_name(field, flag) for flags in FLAGS.values() for field, flag in flags.items()]
    assert all(f"{name}" in text for name in names)
