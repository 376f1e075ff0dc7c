"""Chromium, without a window, through its DevTools protocol: as much of it as the tests of the page need.

Here: starting it, evaluating, clicking, typing, pictures, and a note of every request and every error. Not here: what
the page should do.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

#: Names of the program; `GEO_ASSETS_CHROMIUM` names another.
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

#: Nothing that Chromium does of itself may look like a request of the page. WebGL is drawn by the processor.
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--hide-scrollbars",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """The program, if there is one."""
    named = os.environ.get("GEO_ASSETS_CHROMIUM")
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One page of a Chromium with a profile of its own."""

    def __init__(self, program: str) -> None:
        self._profile = Path(tempfile.mkdtemp(prefix="geo_assets_chromium_"))
        # not a pipe: nobody would read it, and it would fill
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._closing = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.errors: list[str] = []
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self) -> None:
        from websockets.sync.client import connect

        port_file = self._profile / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not port_file.exists() or len(port_file.read_text().splitlines()) < 2:
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError("Chromium did not open its DevTools port")
            time.sleep(0.05)
        port, path = port_file.read_text().splitlines()[:2]
        # no pings: nobody reads their answers while a test waits for something else than the browser
        self._socket = self._closing.enter_context(
            connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None, ping_interval=None)
        )
        self._session = None
        targets = self.send("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "Accessibility"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """End it and forget its profile."""
        self._closing.close()
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command, and its answer; events that come before it are noted."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def _note(self, event: dict[str, Any]) -> None:
        said = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(said["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            thrown = said["exceptionDetails"]
            self.errors.append(thrown.get("exception", {}).get("description") or thrown["text"])
        elif event["method"] == "Log.entryAdded" and said["entry"]["level"] == "error":
            self.errors.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")

    def eval(self, script: str) -> Any:
        """The value of an expression; a promise is waited for."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True)
        if "exceptionDetails" in done:
            thrown = done["exceptionDetails"]
            raise RuntimeError(thrown.get("exception", {}).get("description") or thrown["text"])
        return done["result"].get("value")

    def wait(self, script: str, seconds: float = 20) -> Any:
        """The value of an expression as soon as it is true; of an element, that it is there."""
        deadline = time.monotonic() + seconds
        true = f"Promise.resolve({script}).then((found) => (found instanceof Node ? true : found))"
        while not (value := self.eval(true)):
            if time.monotonic() > deadline:
                shown = self.eval("document.body.innerText.slice(0, 1500)")
                raise TimeoutError(f"not within {seconds} s: {script}\n{shown}\n{self.errors}")
            time.sleep(0.05)
        return value

    def wait_for_text(self, text: str, where: str = "body", seconds: float = 30) -> None:
        """Until it is read there, in whatever case the style shows it."""
        shown = f"document.querySelector({json.dumps(where)})?.innerText?.toLowerCase()"
        self.wait(f"{shown}?.includes({json.dumps(text.lower())})", seconds)

    def goto(self, url: str) -> None:
        """Load a page anew, whatever was there."""
        self.send("Page.navigate", url="about:blank")
        self.wait("location.href === 'about:blank'")
        self.send("Page.navigate", url=url)
        self.wait(f"location.href !== 'about:blank' && document.readyState === 'complete' && {json.dumps(url)}")

    def size(self, width: int, height: int, *, dark: bool = False, calm: bool = True) -> None:
        """The window, and what the user prefers."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        wishes = {
            "prefers-color-scheme": "dark" if dark else "light",
            "prefers-reduced-motion": "reduce" if calm else "",
        }
        self.send(
            "Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in wishes.items()]
        )

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of an element."""
        place = self.eval(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        self.click_at(*place)

    def click_at(self, x: float, y: float) -> None:
        """With the mouse, at a place of the window."""
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y)
        self.mouse("mouseReleased", x, y)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 4) -> None:
        """With the mouse, from one place of the window to another."""
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start)
        for step in range(1, steps + 1):
            x, y = (a + (b - a) * step / steps for a, b in zip(start, end, strict=True))
            self.mouse("mouseMoved", x, y, buttons=1)
        self.mouse("mouseReleased", *end)

    def mouse(self, kind: str, x: float, y: float, buttons: int = 0) -> None:
        """One event of the mouse."""
        button = "none" if kind == "mouseMoved" and not buttons else "left"
        clicks = 0 if kind == "mouseMoved" else 1
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=clicks)

    def key(self, name: str, code: int) -> None:
        """Press a key: its name, and its number as Windows has it."""
        text = {"Enter": "\r"}.get(name, "")
        self.send("Input.dispatchKeyEvent", type="keyDown", key=name, code=name, windowsVirtualKeyCode=code, text=text)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=name, code=name, windowsVirtualKeyCode=code)

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.send("Input.insertText", text=text)

    def picture(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def until_idle(self, seconds: float = 30) -> None:
        """Until the map has drawn everything."""
        self.wait(
            "globalThis.catalogueMap?.loaded() && catalogueMap.areTilesLoaded() && !catalogueMap.isMoving()", seconds
        )
