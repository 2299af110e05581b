"""A Hub on this machine, for tests: it lists a repository's files and sends them, and may break off in the middle of one."""
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c" * 40


@contextmanager
def hub_of(files, breaks_off=()):
    "Serves one repository with these files (path → bytes); sends only half of those in `breaks_off`. Yields its address and what was asked."
    asked = []

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_): pass

        def do_HEAD(self): self.answer(False)

        def do_GET(self): self.answer(True)

        def answer(self, body):
            asked.append(f"{self.command} {self.path}")
            path = self.path.split("?")[0]
            if "/tree/" in path:
                return self.send(json.dumps([dict(type="file", oid=sha256(c).hexdigest()[:40], size=len(c), path=f) for f, c in files.items()]).encode(), body, {})
            if "/resolve/" not in path:
                return self.send(json.dumps(dict(id="a/b", sha=COMMIT, siblings=[dict(rfilename=f) for f in files], tags=[], downloads=0, likes=0, private=False)).encode(), body, {})
            name = path.split("/resolve/")[1].split("/", 1)[1]
            content = files.get(name)
            if content is None: return self.send(b"", body, {"X-Error-Code": "EntryNotFound"}, 404)
            self.send(content, body, {"ETag": f'"{sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, half=name in breaks_off)

        def send(self, content, body, headers, code=200, half=False):
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(content)), "Connection": "close"}.items(): self.send_header(name, value)
            self.end_headers()
            if body: self.wfile.write(content[:len(content) // 2] if half else content)
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def run_with_hub(code, cache, address=None):
    "Runs Python in a process of its own whose Hub is at an address; None: offline. Returns exit code, output, errors."
    own = {"HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DOWNLOAD_TIMEOUT": "5", "HF_HUB_ETAG_TIMEOUT": "5", "OMP_NUM_THREADS": "1"}
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | own | ({"HF_ENDPOINT": address} if address else {"HF_HUB_OFFLINE": "1"})
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"): env.pop(name, None)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=240)
    return run.returncode, run.stdout, run.stderr
