"""Which kind of source reads an address, and what is said where none does."""

from __future__ import annotations

import fsspec
import pytest

from tests.source_files import listed
from tonearm.errors import SourceError


@pytest.mark.parametrize("source", ["ftp://host/a.mp3", "foo://x"])
def test_an_unknown_scheme_is_refused(source: str) -> None:
    with pytest.raises(SourceError, match="unknown scheme"):
        listed(source)


def test_an_empty_source_is_not_the_current_folder() -> None:
    """``tonearm tag "$MUSIC"`` without the variable tagged whatever lies where it was started."""
    with pytest.raises(SourceError, match="got the source '', expected a path or a URL"):
        listed("")


@pytest.mark.parametrize(("source", "extra"), [("gs://bucket/a", "gcs"), ("az://container/a", "azure")])
def test_stores_of_missing_packages_name_the_extra(source: str, extra: str) -> None:
    pytest.importorskip("fsspec")
    if extra == "gcs" and "gcsfs" in fsspec.available_protocols() and __import__("importlib").util.find_spec("gcsfs"):
        pytest.skip("gcsfs is installed")
    with pytest.raises(SourceError, match=rf"needs the extra '{extra}', .* install .*\[{extra}\]"):
        listed(source)
