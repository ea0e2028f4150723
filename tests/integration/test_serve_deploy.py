"""serve/config.yaml on a real Ray cluster of one node, by Ray's own commands, and serve/nginx.conf in front of it."""

from __future__ import annotations

import contextlib
import io
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
import yaml

from tests.commands import environment, wait_for
from tests.servers import nginx
from tests.servers.swift_s3 import free_ports
from tests.unit.test_serve_config import CONFIG, read_config

BIN = Path(sys.executable).parent


@pytest.mark.slow
def test_serve_deploy(tmp_path: Path) -> None:
    """serve/config.yaml deploys on a running cluster and answers."""
    port, dashboard = free_ports(2)
    config = read_config()
    config["http_options"] |= {"host": "127.0.0.1", "port": port}
    config["applications"][0]["args"] = {"demo_models": True}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    address, url = f"http://127.0.0.1:{dashboard}", f"http://127.0.0.1:{port}"
    env = environment(RAY_AUTH_MODE="disabled")
    start = ["start", "--head", "--block", "--port=0", "--num-cpus=6", f"--dashboard-port={dashboard}"]
    with (tmp_path / "ray.log").open("w") as log:
        ray = subprocess.Popen([BIN / "ray", *start], env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: answers(f"{address}/api/version"), what="the cluster")
        deploy = [BIN / "serve", "deploy", tmp_path / "config.yaml", "-a", address]
        subprocess.run(deploy, env=env, cwd=CONFIG.parents[1], check=True, capture_output=True, timeout=60)
        wait_for(lambda: answers(f"{url}/healthz"), what="the server")
        clip = io.BytesIO()
        soundfile.write(clip, np.random.default_rng(0).normal(0, 0.1, 32000), 16000, format="WAV")
        assert httpx.post(f"{url}/v1/tag", content=clip.getvalue(), timeout=60).json()["coverage"] == 1.0
        # The heads are processes of their own, and their figures are there all the same.
        assert 'tonearm_windows_total{head="tags"} 1.0' in httpx.get(f"{url}/metrics").text
        if Path(nginx.PROGRAM).is_file():
            check_bounds(tmp_path / "nginx", port, clip.getvalue())
    finally:
        ray.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            ray.wait(60)
        ray.kill()


def check_bounds(folder: Path, behind: int, clip: bytes) -> None:
    """What Serve's proxy does not bound, nginx does; keys are needed, since it forwards for others."""
    folder.mkdir()
    (port,) = free_ports(1)
    with nginx.running(folder, port, behind, client_header_timeout="1s") as url:
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.post(f"{url}/v1/tag", content=clip, timeout=60).status_code == 401
        for field, expected in ((b"x-a: " + b"a" * 40_000, b"HTTP/1.1 400 "), (b"x-a: a", b"")):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + field)
                with contextlib.suppress(ConnectionResetError):
                    assert connection.recv(2**16).startswith(expected)
        assert httpx.get(f"{url}/healthz").status_code == 200


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, timeout=30).status_code == 200
    return False
