"""What a form asks in fields and in ``parameters`` is one request, or is refused where the two differ."""

from __future__ import annotations

import pytest

from tonearm.web.messages import FormFields


def test_fields_and_parameters_are_put_together() -> None:
    asked = FormFields.model_validate({"top_k": "3", "parameters": '{"function_to_apply": "none", "top_k": 3}'})
    together = asked.with_parameters()
    assert (together.top_k, together.function_to_apply, together.max_windows) == (3, "none", None)


def test_fields_and_parameters_that_differ_are_refused_by_name() -> None:
    asked = FormFields.model_validate({"top_k": "3", "parameters": '{"top_k": 2}'})
    with pytest.raises(ValueError, match="top_k is 3 and, in parameters, 2, expected one"):
        asked.with_parameters()
