"""A web server on the loopback that has one file, and the faults that a test asks of it."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        web = self.server
        web.requests.append(dict(self.headers))
        if web.location is not None and self.path in web.moved:
            self.send_response(302)
            self.send_header("Location", web.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if web.statuses:
            status = web.statuses.pop(0)
            if status is None:  # not a word
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body, start = web.body, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and web.ranges and self.headers.get("If-Range", web.etag) == web.etag:
            start = int(asked[1])
            if start >= len(body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = web.wrong_start if web.wrong_start is not None else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if web.etag:
            self.send_header("ETag", web.etag)
        if web.says_length:
            length = len(body) - start if web.says_length is True else web.says_length
            self.send_header("Content-Length", str(length))
        self.end_headers()
        end = len(body) if web.cut is None else min(len(body), start + web.cut)
        try:
            self.wfile.write(body[start:end])
            self.wfile.flush()
            if end < len(body) and web.stall:
                web.go_on.wait(20)
        except OSError:  # the client is gone
            pass
        self.close_connection = True


class Web(ThreadingHTTPServer):
    """Serves `body` under any name. The attributes say what goes wrong."""

    daemon_threads = True

    def __init__(self, body):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.ranges = body, '"one"', True
        self.says_length = True  # or what it says instead
        self.cut = None  # bytes of one reply, then the connection ends, or
        self.stall = False  # nothing comes any more
        self.go_on = threading.Event()
        self.statuses = []  # answers before the file is served; None: the connection is closed
        self.wrong_start = None  # what a part is said to begin at
        self.location, self.moved = None, ["/file"]  # where these paths lead to
        self.requests = []  # headers
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def handle_error(self, request, client_address):
        """Whoever asked has gone, or will ask again."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/file"

    @property
    def asked(self):
        """The Range of each request."""
        return [headers.get("Range") for headers in self.requests]

    def stop(self):
        self.go_on.set()
        self.shutdown()
        self.server_close()
