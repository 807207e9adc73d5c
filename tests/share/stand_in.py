"""A stand-in for the Hugging Face hub on localhost: the calls that push and pull make of it."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_standin"


class Hub:
    """Repositories as dicts of files, and a list of what was asked."""

    def __init__(self):
        self.repos, self.large, self.asked = {}, {}, []
        self.sizes = {}
        """Sizes that the hub claims, where they are not the true ones."""

    def sha(self, name):
        return hashlib.sha1(repr(sorted(self.repos[name].items())).encode()).hexdigest()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self):
        return self.server.hub

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", kind="application/json", **headers):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def take(self):
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path).strip("/")
        self.hub.asked.append(f"{self.command} {path}")
        return path, content

    def missing(self):
        self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

    def do_POST(self):
        path, content = self.take()
        if path == "api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid credentials"})
        if path == "api/repos/create":
            asked = json.loads(content)
            name = f"{asked['organization']}/{asked['name']}"
            status = 409 if name in self.hub.repos else 200
            self.hub.repos.setdefault(name, {})
            return self.answer(status, {"url": f"http://{self.headers['Host']}/{name}"})
        parts = path.split("/")
        if path.endswith(".git/info/lfs/objects/batch"):
            wanted = json.loads(content)["objects"]
            href = f"http://{self.headers['Host']}/lfs/"
            objects = [one | {"actions": {"upload": {"href": href + one["oid"]}}} for one in wanted]
            return self.answer(200, {"transfer": "basic", "objects": objects})
        name, verb = "/".join(parts[2:4]), parts[4]
        if name not in self.hub.repos:
            return self.missing()
        if verb == "preupload":
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(content)["files"]
            ]
            return self.answer(200, {"files": files})
        assert verb == "commit"
        for line in map(json.loads, content.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.hub.repos[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.repos[name][value["path"]] = self.hub.large[value["oid"]]
        sha = self.hub.sha(name)
        url = f"http://{self.headers['Host']}/{name}/commit/{sha}"
        return self.answer(200, {"commitUrl": url, "commitOid": sha})

    def do_PUT(self):
        path, content = self.take()
        self.hub.large[path.removeprefix("lfs/")] = content
        self.answer(200)

    def do_GET(self):
        path, _ = self.take()
        parts = path.split("/")
        if parts[:2] == ["api", "models"]:
            name = "/".join(parts[2:4])
            if name not in self.hub.repos:
                return self.missing()
            files = [
                {"rfilename": file, "size": self.hub.sizes.get(file, len(content))}
                for file, content in self.hub.repos[name].items()
            ]
            facts = {"id": name, "sha": self.hub.sha(name), "siblings": files, "private": False}
            return self.answer(200, facts | {"downloads": 0, "likes": 0, "tags": []})
        name, file = "/".join(parts[:2]), "/".join(parts[4:])
        if file not in self.hub.repos.get(name, {}):
            return self.missing()
        content = self.hub.repos[name][file]
        tag = hashlib.sha256(content).hexdigest()
        return self.answer(
            200, content, "application/octet-stream", X_Repo_Commit=parts[3], ETag=f'"{tag}"'
        )

    def do_HEAD(self):
        self.do_GET()


@contextmanager
def stand_in():
    """The hub and its address, while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.hub = Hub()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.hub, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
