"""An S3 server on 127.0.0.1, in a process of its own, whose objects are in its memory: moto's.

It can be stopped and go on (SIGSTOP), refuse connections, fail, or take its time, and loses nothing
of what it has by that.
"""

from __future__ import annotations

import os
import re
import signal
import urllib.request

from programs import Program

#: What a request that is delayed waits, in seconds.
DELAY = 0.05
#: How many have to be asked for before any is given, if that is asked for.
TOGETHER = 3

PROGRAM = f"""
import logging, time
from threading import Event, Semaphore
from werkzeug.serving import make_server
from moto.server import DomainDispatcherApplication, create_backend_app

logging.getLogger("werkzeug").setLevel(logging.ERROR)
moto = DomainDispatcherApplication(create_backend_app)
mode = b"s"
others, together = Semaphore({TOGETHER - 1}), Event()

def meets(environment):
    # Whether so many parts of objects were asked for at the same time.
    if environment["REQUEST_METHOD"] != "GET" or not environment.get("HTTP_RANGE"):
        return True
    if not others.acquire(blocking=False):
        together.set()
    elif not together.wait(10):
        others.release()
    return together.is_set()

def answer(environment, start):
    if mode == b"f" or mode == b"m" and not meets(environment):
        start("503 Slow Down", [("Content-Length", "0"), ("Connection", "close")])
        return []
    if mode == b"d":
        time.sleep({DELAY})
    return moto(environment, start)

def serve(port):
    server = make_server("127.0.0.1", port, answer, threaded=True)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server

server = serve(0)
port = server.server_port
tell(port)
while mode := hear():
    if mode == b"r":
        server.shutdown()
        server.server_close()
        server = None
    elif server is None:
        server = serve(port)
    if mode == b"m":
        others, together = Semaphore({TOGETHER - 1}), Event()
    tell(mode.decode())
"""


class Server(Program):
    def __init__(self) -> None:
        super().__init__(PROGRAM)
        self.url = f"http://127.0.0.1:{self.told()}"
        self.bucket = "objects"
        self._ask("PUT", self.bucket)

    def _ask(self, method: str, path: str) -> str:
        request = urllib.request.Request(f"{self.url}/{path}", method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()

    def keys(self) -> list[str]:
        return re.findall("<Key>(.*?)</Key>", self._ask("GET", self.bucket + "?list-type=2"))

    def buckets(self) -> list[str]:
        return re.findall("<Name>(.*?)</Name>", self._ask("GET", ""))

    def uploads(self) -> list[str]:
        """Those that were begun, and neither completed nor aborted."""
        return re.findall("<UploadId>(.*?)</UploadId>", self._ask("GET", self.bucket + "?uploads"))

    # -- what it does from now on ----------------------------------------------------------------

    def serve(self) -> None:
        self._become("s")

    def delay(self) -> None:
        self._become("d")

    def meet(self) -> None:
        """Parts of objects are given once several are asked for at a time, and not before."""
        self._become("m")

    def fail(self) -> None:
        """Every request, with 503."""
        self._become("f")

    def refuse(self) -> None:
        """No connection is taken."""
        self._become("r")

    def stop(self) -> None:
        """It takes connections, as the system does, and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _become(self, mode: str) -> None:
        os.write(self.orders, mode.encode())
        assert self.told() == mode
