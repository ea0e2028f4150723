"""``tonearm models`` prints names as they are."""

from __future__ import annotations

import pytest

from tonearm.cli.models import models


@pytest.mark.parametrize("name", ["[bonus disc]", "[/b]", "[red]", ":smile:", "a[1]"])
def test_brackets_in_names_are_not_taken_for_markup(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert models(genre_model=f"./none/{name}", tag_model="none") == 2
    said = "".join(capsys.readouterr().out.split())
    assert "".join(name.split()) in said
