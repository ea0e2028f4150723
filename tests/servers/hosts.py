"""Hosts of the tests' own on one machine: network namespaces on a bridge, each with an address, that can be cut off.

Needs Linux, root and iproute2.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence

import pytest

_numbers = itertools.count()


class Hosts:
    """A bridge in this machine's own namespace, which has ``gateway``, and hosts on it."""

    def __init__(self, names: Sequence[str]) -> None:
        number = next(_numbers)
        self.tag = f"t{os.getpid() % 100_000}{number}"
        self.network = f"10.{77 + number}.{os.getpid() % 250}"
        self.gateway = f"{self.network}.254"
        self.addresses = {name: f"{self.network}.{place}" for place, name in enumerate(names, 1)}
        self.processes: list[subprocess.Popen[bytes]] = []

    def make(self) -> None:
        """Make the bridge and the hosts."""
        ip("link", "add", f"br{self.tag}", "type", "bridge")
        ip("address", "add", f"{self.gateway}/24", "dev", f"br{self.tag}")
        ip("link", "set", f"br{self.tag}", "up")
        for place, (name, address) in enumerate(self.addresses.items()):
            space, outside, inside = self.space(name), self.cable(name), f"i{self.tag}{place}"
            ip("netns", "add", space)
            ip("link", "add", outside, "type", "veth", "peer", "name", inside)
            ip("link", "set", inside, "netns", space)
            ip("link", "set", outside, "master", f"br{self.tag}")
            ip("link", "set", outside, "up")
            for words in (
                ("address", "add", f"{address}/24", "dev", inside),
                ("link", "set", inside, "up"),
                ("link", "set", "lo", "up"),
                ("route", "add", "default", "via", self.gateway),
            ):
                ip("-n", space, *words)

    def space(self, name: str) -> str:
        """Return the namespace of a host."""
        return f"{self.tag}-{name}"

    def cable(self, name: str) -> str:
        """Return the bridge's end of a host's link."""
        return f"o{self.tag}{list(self.addresses).index(name)}"

    def start(self, name: str, command: Sequence[str], env: Mapping[str, str], log: str) -> subprocess.Popen[bytes]:
        """Run a command on a host until ``end``."""
        with open(log, "wb") as output:  # noqa: PTH123
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.space(name), *command],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def cut_off(self, name: str) -> None:
        """Pull a host's cable: it goes on, and nothing reaches it or comes from it."""
        ip("link", "set", self.cable(name), "down")

    def pids(self, name: str) -> list[int]:
        """Return the processes on a host."""
        found = subprocess.run(["ip", "netns", "pids", self.space(name)], capture_output=True, text=True).stdout
        return [int(pid) for pid in found.split()]

    def end(self) -> None:
        """End every process on the hosts, and remove them and the bridge."""
        for name in self.addresses:
            for pid in self.pids(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, 9)
        for process in self.processes:
            process.wait(timeout=30)
        for name in self.addresses:
            ip("netns", "delete", self.space(name), check=False)
        ip("link", "delete", f"br{self.tag}", check=False)


def ip(*words: str, check: bool = True) -> None:
    """Run iproute2's ``ip``."""
    made = subprocess.run(["ip", *words], capture_output=True, text=True)
    if check and made.returncode:
        raise OSError(f"ip {' '.join(words)}: {made.stderr.strip()}")


@contextlib.contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """Make hosts until the block ends; skip where that is not allowed."""
    if shutil.which("ip") is None:
        pytest.skip("needs iproute2 (apt install iproute2)")
    made = Hosts(names)
    try:
        made.make()
    except OSError as error:
        made.end()
        pytest.skip(f"network namespaces are not allowed here ({error})")
    try:
        yield made
    finally:
        made.end()
