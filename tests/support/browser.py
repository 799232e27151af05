"""A real browser, driven over Chromium's DevTools protocol: just enough to read a page, type and look at it."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    *("--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
    *("--no-proxy-server", "--hide-scrollbars", "about:blank"),
)
_KEYS = {"Tab": 9, "Enter": 13, "Space": 32, "Backspace": 8}
_PATIENCE = 20.0


class Browser:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []
        """What the browser complained about: errors in the console, exceptions, broken policies, failed loads."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Give a command and return its answer."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            found = json.loads(self._socket.recv(timeout=_PATIENCE))
            if found.get("id") == number:
                assert "error" not in found, f"{method}: {found['error']}"
                return found["result"]
            self._heard(found)

    def _heard(self, event: dict[str, Any]) -> None:
        said = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
        elif event["method"] == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(str(said["args"]))

    def run(self, script: str) -> Any:
        """Return what a JavaScript expression is. The page's policy does not bind the browser's own tools."""
        found = self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def open(self, address: str) -> None:
        """Load a page and wait until it is there."""
        self.do("Page.navigate", url=address)
        self.wait(lambda: self.run("document.readyState == 'complete' && location.href != 'about:blank'"))

    def wait(self, condition: Callable[[], object], what: str = "") -> None:
        """Wait until something is so."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                if condition():
                    return
                self.run("0")  # what the browser says by itself is heard while an answer is waited for
            except AssertionError:  # the page is just being left
                pass
            assert time.monotonic() < until, f"waited in vain {what}: {self.text[:2000]}"
            time.sleep(0.05)

    def see(self, words: str) -> None:
        """Wait until words are on the page."""
        self.wait(lambda: words in self.text, f"for {words!r}")

    @property
    def text(self) -> str:
        """What can be read on the page, on one line."""
        return " ".join(str(self.run("document.body ? document.body.innerText : ''")).split())

    def press(self, key: str, *, times: int = 1) -> None:
        """Press a key."""
        code = _KEYS[key]
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                more = {"text": text} if text and kind == "keyDown" else {}
                name = " " if key == "Space" else key
                self.do(
                    "Input.dispatchKeyEvent", type=kind, key=name, code=key, windowsVirtualKeyCode=code, **more
                )

    def type(self, words: str) -> None:
        """Type words into what has the focus."""
        self.do("Input.insertText", text=words)

    def tab_to(self, wanted: str) -> None:
        """Press Tab until the focus is on a thing with these words or this id."""
        for _ in range(60):
            self.press("Tab")
            focus = "document.activeElement"
            if wanted in (self.run(f"{focus}.id"), self.run(f"({focus}.innerText || '').trim()")):
                return
        raise AssertionError(f"no Tab leads to {wanted}")

    def click(self, selector: str) -> None:
        """Click in the middle of a thing."""
        place = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.do("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def size(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """Be a screen of this size."""
        self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Take a picture."""
        found = self.do("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))


def program() -> str | None:
    """Return Chromium's program, or None if there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def browser() -> Iterator[Browser]:
    """Start Chromium with a profile of its own, and end it with all that it started."""
    found = program()
    assert found
    with tempfile.TemporaryDirectory(prefix="onebasin-chromium-", ignore_cleanup_errors=True) as profile:
        root = ["--no-sandbox"] if os.geteuid() == 0 else []  # its sandbox does not work for root
        process = subprocess.Popen(
            [found, *root, f"--user-data-dir={profile}", *_OPTIONS],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield from _tab(process, Path(profile))
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _tab(process: subprocess.Popen[bytes], profile: Path) -> Iterator[Browser]:
    told, until = profile / "DevToolsActivePort", time.monotonic() + 60
    while not (told.exists() and told.read_text().count("\n")):
        assert process.poll() is None, "Chromium ended"
        assert time.monotonic() < until, "Chromium doesn't start"
        time.sleep(0.05)
    port, path = told.read_text().split()
    with connect(f"ws://127.0.0.1:{port}{path}", proxy=None) as first:
        first.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(first.recv(timeout=_PATIENCE))["result"]["targetInfos"]
    target = next(one["targetId"] for one in targets if one["type"] == "page")
    with connect(f"ws://127.0.0.1:{port}/devtools/page/{target}", proxy=None, max_size=None) as socket:
        yield Browser(socket)
