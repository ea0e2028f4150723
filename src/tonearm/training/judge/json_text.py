"""Write figures as JSON that every parser accepts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping


def json_text(values: object) -> str:
    """Return ``values`` as indented JSON with a final newline; NaN and infinities become null."""
    return json.dumps(_replace_nan(values), indent=1, allow_nan=False) + "\n"


def _replace_nan(value: object) -> object:
    # JSON has no NaN and no infinity (RFC 8259, section 6), though Python would write them.
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: _replace_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_nan(inner) for inner in value]
    return value
