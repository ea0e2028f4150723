"""A node of Ray without the processes that only clusters need.

Each of Ray's Python processes costs one to two core-seconds of imports, and a short run waits for them; most poll for
as long as it runs. Ray has no public switch for these, so private names of the version that is pinned are replaced
while it starts. Nothing else depends on that: without it a run starts later and does the same.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator

from ray._private import parameter
from ray._private.node import Node


@contextlib.contextmanager
def node_alone(*, verbose: bool) -> Iterator[None]:
    """Have ``ray.init`` start no autoscaler and no dashboard, and only if ``verbose`` what hands on workers' output.

    ``ray.init(include_dashboard=False)`` still starts the dashboard's process, for the sake of usage statistics, and
    waits for it.
    """
    # Ray's annotation says a text.
    params = functools.partial(parameter.RayParams, no_monitor=True, include_log_monitor=verbose)  # type: ignore[arg-type]

    def start_no_server(node: Node, **_: object) -> None:
        node._webui_url = ""

    with replaced(parameter, "RayParams", params), replaced(Node, "start_api_server", start_no_server):
        yield


@contextlib.contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Put a value in the place of an attribute while the block runs."""
    before = inspect.getattr_static(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
