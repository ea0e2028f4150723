"""A cluster that does not answer, or an address that is none, is refused within seconds and in one line."""

from __future__ import annotations

import os
import socket

import pytest

from tonearm.distributed.cluster import joining
from tonearm.errors import ClusterError


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an environment that joining may change, without a proxy and without a cluster."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name in ("RAY_TMPDIR", "RAY_ADDRESS"):
            del os.environ[name]


@pytest.mark.processes
def test_a_cluster_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "ANSWERS_IN_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for scheme in ("", "ray://"):
            address = f"{scheme}127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(ClusterError, match=f"got RAY_ADDRESS={address}, but no Ray cluster answers there"):
                joining.check_answers(address)


def test_an_address_that_is_none_is_one_line() -> None:
    os.environ["RAY_ADDRESS"] = "nonsense"
    with pytest.raises(ClusterError, match="could not be reached") as caught, joining.joined(None, verbose=True):
        pass
    assert "\n" not in caught.value.message
