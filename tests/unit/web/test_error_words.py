"""The page's words for errors are made from the table of error codes."""

from __future__ import annotations

from tonearm.web import error_words


def test_the_page_has_its_words_from_the_table() -> None:
    assert error_words.FILE.read_text() == error_words.page_module(), "run python -m tonearm.web.error_words"
    assert 'import { WORDS } from "./error_words.js";' in (error_words.FILE.parent / "api.js").read_text()
