"""A small server that speaks the Hugging Face Hub's HTTP, as far as creating, committing to and reading a model goes.

It keeps what is sent, checks what the Hub checks (a token, the sizes and hashes of large files) and serves it again.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

COMMIT = "c" * 40


@dataclasses.dataclass
class Hub:
    """The server's address, its token, and what it holds: ``OWNER/NAME`` to file to bytes."""

    url: str = ""
    token: str = "hf_test"
    repos: dict[str, dict[str, bytes]] = dataclasses.field(default_factory=dict)
    private: dict[str, bool] = dataclasses.field(default_factory=dict)
    large: dict[str, bytes] = dataclasses.field(default_factory=dict)
    messages: list[str] = dataclasses.field(default_factory=list)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "X-Repo-Commit": COMMIT, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _may_write(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {self.hub.token}":
            return True
        self._answer({"error": "Invalid credentials"}, 401)
        return False

    def do_POST(self) -> None:
        body = self._body()
        if self.path == "/api/validate-yaml":
            metadata = json.loads(body)["content"].split("---")[1]
            errors = [] if isinstance(yaml.safe_load(metadata), dict) else [{"message": "no metadata"}]
            self._answer({"errors": errors, "warnings": []})
            return
        if not self._may_write():
            return
        if self.path == "/api/repos/create":
            facts = json.loads(body)
            name = f"{facts['organization']}/{facts['name']}" if facts.get("organization") else f"me/{facts['name']}"
            if name in self.hub.repos:
                self._answer({"error": "exists", "url": f"{self.hub.url}/{name}"}, 409)
                return
            self.hub.repos[name] = {}
            self.hub.private[name] = facts.get("visibility") == "private" or bool(facts.get("private"))
            self._answer({"url": f"{self.hub.url}/{name}"})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", self.path):
            files = json.loads(body)["files"]
            large = (".safetensors", ".png")
            self._answer(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": "lfs" if file["path"].endswith(large) else "regular",
                            "shouldIgnore": False,
                        }
                        for file in files
                    ]
                }
            )
        elif match := re.fullmatch(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", self.path):
            objects = [
                {
                    "oid": entry["oid"],
                    "size": entry["size"],
                    "actions": {"upload": {"href": f"{self.hub.url}/large/{entry['oid']}"}},
                }
                for entry in json.loads(body)["objects"]
            ]
            self._answer(
                {"transfer": "basic", "objects": objects}, headers={"Content-Type": "application/vnd.git-lfs+json"}
            )
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", self.path):
            self._commit(match[1], body)
        else:
            self._answer({"error": f"unknown {self.path}"}, 404)

    def _commit(self, repo: str, body: bytes) -> None:
        files = self.hub.repos[repo]
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.hub.messages.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.hub.large:
                    self._answer({"error": "LFS object was never sent"}, 400)
                    return
                files[value["path"]] = self.hub.large[value["oid"]]
        self._answer({"success": True, "commitUrl": f"{self.hub.url}/{repo}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_PUT(self) -> None:
        body = self._body()
        oid = self.path.rpartition("/")[2]
        if hashlib.sha256(body).hexdigest() != oid:
            self._answer({"error": "the hash differs"}, 400)
            return
        self.hub.large[oid] = body
        self._answer({})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/?]+)?(\?.*)?", self.path):
            files = self.hub.repos.get(match[1])
            if files is None:
                self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
                return
            siblings = [{"rfilename": name} for name in files]
            self._answer({"id": match[1], "modelId": match[1], "sha": COMMIT, "siblings": siblings, "private": False})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/?]+(\?.*)?", self.path):
            files = self.hub.repos.get(match[1], {})
            self._answer(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
            )
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path):
            content = self.hub.repos.get(match[1], {}).get(match[2])
            if content is None:
                self._answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
                return
            self._answer(content, headers={"ETag": f'"{hashlib.sha256(content).hexdigest()}"'})
        else:
            self._answer({"error": f"unknown {self.path}"}, 404)


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """Serve on a free port of this machine while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
