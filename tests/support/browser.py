"""Control a headless browser through its debugging protocol over two pipes, without a port or driver."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def installed() -> str | None:
    """Return the browser on the path, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def axe_core() -> Path | None:
    """Return the script of axe-core, which finds accessibility violations; None if it is not installed."""
    script = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
    return script if script.is_file() else None


class Browser:
    """A running browser with one page; it records the requests and the console errors of the page."""

    def __init__(self, program: str, folder: Path) -> None:
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        options += ["--remote-debugging-pipe", f"--user-data-dir={folder}", "--disable-background-networking"]
        # The protocol uses the file descriptors 3 and 4; bash can attach pipes to them.
        line = f'exec "$@" 3<&{read_there} 4>&{write_there}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, "bash", program, *options, "about:blank"],
            pass_fds=(read_there, write_there),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_there)
        os.close(write_there)
        self._read, self._write = read_here, write_here
        self._buffer = b""
        self._number = 0
        self._session = ""
        self.requests: list[str] = []
        self.complaints: list[str] = []

    def __enter__(self) -> "Browser":
        page = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._call("Target.attachToTarget", {"targetId": page, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)

    def open(self, path: Path, scheme: str = "light") -> None:
        """Open a file, in light or dark, and wait until it is complete."""
        self._call("Network.emulateNetworkConditions", _OFFLINE)
        self._call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        self._call("Page.navigate", {"url": path.as_uri()})
        while self.evaluate("document.readyState") != "complete" or self.evaluate("location.href") == "about:blank":
            time.sleep(0.01)

    @contextmanager
    def window(self, width: int, height: int) -> Iterator[None]:
        """Give the page a window of this size for the length of a with statement."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", size)
        try:
            yield
        finally:
            self._call("Emulation.clearDeviceMetricsOverride")

    def picture(self) -> bytes:
        """Return a PNG of the whole page."""
        answer = self._call("Page.captureScreenshot", {"captureBeyondViewport": True})
        return base64.b64decode(answer["data"])

    def faults(self, axe: Path) -> list[str]:
        """Return the violations that axe-core finds in the page: the rule, and the elements."""
        self.evaluate(axe.read_text(encoding="utf-8"), returned=False)
        return list(self.evaluate(_FAULTS))

    def evaluate(self, expression: str, *, returned: bool = True) -> Any:
        """Return the value of a JavaScript expression in the page; wait for it if it is a promise."""
        wanted = {"expression": expression, "returnByValue": returned, "awaitPromise": returned}
        answer = self._call("Runtime.evaluate", wanted)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def _call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters or {}}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for answer in self._messages():
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._note(answer)
        raise AssertionError("the browser ended")

    def _messages(self) -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" in self._buffer:
                text, _, self._buffer = self._buffer.partition(b"\0")
                yield json.loads(text)
            if not (received := os.read(self._read, 1 << 16)):
                return
            self._buffer += received

    def _note(self, event: dict[str, Any]) -> None:
        method, about = event.get("method", ""), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(f"{about['entry']['level']}: {about['entry']['text']}")
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(about["exceptionDetails"].get("text")))
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(f"console.{about['type']}")


_FAULTS = """axe.run().then(found => found.violations.map(
  fault => `${fault.id}: ${fault.nodes.map(node => node.target.join(" ")).join(", ")}`))"""

_OFFLINE = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}


@contextmanager
def browsing(program: str, folder: Path) -> Iterator[Browser]:
    """Start a browser for the length of a with statement."""
    with Browser(program, folder) as browser:
        yield browser
