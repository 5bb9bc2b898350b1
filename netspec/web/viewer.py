"""Netron's page, where Netron is installed, and the nets that are opened in it: on this machine alone, in a
page that can ask nothing of others."""

import importlib.util
import re
import secrets
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, urlsplit

HERE = "127.0.0.1"
# as it comes, the page asks a service where in the world it is seen, and reports that it is, of which net
POLICY = ("default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
          "worker-src 'self' blob:; frame-ancestors 'none'")
PUBLISHED = re.compile(r'<meta name="(version|date)" content="[^"]*">')
OWN = '<meta name="version" content="0.0.0">'  # of a copy that is not published, which reports nothing


def folder() -> Path | None:
    """Where Netron's page lies; None where it is not installed."""
    spec = importlib.util.find_spec("netron")
    return Path(spec.origin).parent if spec and spec.origin else None


class Viewer:
    """Serves Netron's page and what is opened in it, from the first net until this process ends."""

    def __init__(self, root: Path, temporary: Path) -> None:
        """root: where Netron's page lies."""
        self.root, self.index, self.files = root, temporary / "netron.html", dict[str, Path]()
        self.lock = threading.Lock()
        self.server: ThreadingHTTPServer | None = None

    def open(self, net: Path) -> str:
        """The address at which a net is shown."""
        with self.lock:
            self.server = self.server or self._start()
        key = f"/open/{secrets.token_urlsafe()}"  # others on this machine do not guess it
        self.files[key] = net
        home = f"http://{HERE}:{self.server.server_port}"
        return f"{home}/?url={quote(f'{home}{key}/{quote(net.name)}', safe='')}"

    def _start(self) -> ThreadingHTTPServer:
        text = PUBLISHED.sub("", (self.root / "index.html").read_text(encoding="utf-8"))
        self.index.write_text(text.replace("<head>", f"<head>{OWN}", 1), encoding="utf-8")
        index, files = self.index, self.files

        class Handler(SimpleHTTPRequestHandler):
            def translate_path(self, path: str) -> str:
                asked = urlsplit(path).path
                if asked == "/":
                    return str(index)
                net = files.get(asked.rpartition("/")[0])
                return str(net) if net else super().translate_path(path)

            def end_headers(self) -> None:
                self.send_header("Content-Security-Policy", POLICY)
                self.send_header("Set-Cookie", "consent=0; SameSite=Strict")  # to reports: nothing to ask
                super().end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        server = ThreadingHTTPServer((HERE, 0), lambda *given: Handler(*given, directory=str(self.root)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server
