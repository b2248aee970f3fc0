"""Chromium without a window: pages to open, look at, point at and type into.

It is spoken to in its own DevTools protocol, over aiohttp's web socket.
"""

import asyncio
import base64
import contextlib
import itertools
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import aiohttp

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]
LONGEST = 30
"""Seconds to wait for anything."""

KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "Space": 32, "ArrowRight": 39, "ArrowDown": 40}


class Chromium:
    """A browser that runs, with a profile of its own that goes with it."""

    def __init__(self, program):
        self._folder = tempfile.mkdtemp(prefix="chromium-")
        self._process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={self._folder}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.address = self._address()
        except BaseException:
            self.close()
            raise

    def _address(self):
        file = Path(self._folder, "DevToolsActivePort")
        until = time.monotonic() + LONGEST
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(FileNotFoundError, IndexError):
                port, path = file.read_text().splitlines()[:2]
                return f"ws://127.0.0.1:{port}{path}"
            time.sleep(0.02)
        raise RuntimeError(f"Chromium didn't start, or ended with {self._process.poll()}")

    def close(self):
        self._process.kill()
        self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def page(self, *, width=1280, height=900, touch=False, dark=False):
        """Open an empty page in a context of its own."""
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(self.address, max_msg_size=0) as socket,
        ):
            page = Page(socket)
            reader = asyncio.create_task(page.read())
            try:
                await page.open()
                await page.resize(width, height, touch=touch)
                await page.prefer(dark=dark)
                yield page
                await page.close()
            finally:
                await socket.close()
                await reader


class Page:
    """One page: what it shows, and in ``problems`` whatever it complained of."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers = {}
        self._session = None
        self._loaded = asyncio.Event()
        self.problems = []
        """Errors and warnings of the console, exceptions, and what the policy refused."""
        self.requested = []
        """The URLs of all that was fetched."""

    async def open(self):
        self._context = (await self._browser("Target.createBrowserContext"))["browserContextId"]
        target = await self._browser(
            "Target.createTarget", url="about:blank", browserContextId=self._context
        )
        attached = await self._browser(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.send(f"{domain}.enable")

    async def close(self):
        await self._browser("Target.disposeBrowserContext", browserContextId=self._context)

    async def read(self):
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            else:
                self._note(said["method"], said["params"])
        for answer in self._answers.values():
            answer.cancel()

    def _note(self, method, params):
        match method:
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                told = [each.get("value", each.get("description")) for each in params["args"]]
                self.problems.append(" ".join(map(str, told)))
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                told = details.get("exception", {}).get("description", details["text"])
                self.problems.append(told)
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.problems.append(params["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])
            case "Page.loadEventFired":
                self._loaded.set()

    async def _browser(self, method, **params):
        return await self._send({"method": method, "params": params})

    async def send(self, method, **params):
        """Give the page a command of the protocol."""
        return await self._send({"method": method, "params": params, "sessionId": self._session})

    async def _send(self, message):
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, **message})
        async with asyncio.timeout(LONGEST):
            said = await answer
        assert "error" not in said, f"{message['method']}: {said.get('error')}"
        return said["result"]

    # --- What the page does ---

    async def goto(self, url):
        """Load a page and what belongs to it."""
        self._loaded.clear()
        await self.send("Page.navigate", url=str(url))
        async with asyncio.timeout(LONGEST):
            await self._loaded.wait()

    async def run(self, expression):
        """Return the value of an expression of JavaScript, or of what it promises."""
        done = await self.send(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in done:
            raise AssertionError(done["exceptionDetails"]["exception"]["description"])
        return done["result"].get("value")

    async def until(self, expression):
        """Wait until an expression is true, and return its value."""
        async with asyncio.timeout(LONGEST):
            while not (value := await self.run(expression)):
                await self.run("new Promise(done => setTimeout(done, 20))")
        return value

    async def resize(self, width, height, *, touch=False):
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=touch,
        )
        await self.send("Emulation.setTouchEmulationEnabled", enabled=touch)

    async def prefer(self, *, dark):
        """Let the system be dark, or light."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    # --- What a reader does ---

    async def press(self, *keys):
        """Press and release keys."""
        for key in keys:
            code = {"key": " " if key == "Space" else key, "code": key}
            code["windowsVirtualKeyCode"] = KEYS[key]
            text = {"Enter": "\r", "Space": " "}.get(key)
            down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
            await self.send("Input.dispatchKeyEvent", **code, **down)
            await self.send("Input.dispatchKeyEvent", **code, type="keyUp")

    async def write(self, text):
        """Type a text where the focus is."""
        await self.send("Input.insertText", text=text)

    async def point(self, x, y):
        """Move the mouse to a place of the window."""
        await self._mouse("mouseMoved", x - 1, y)
        await self._mouse("mouseMoved", x, y)

    async def click(self, x, y, *, count=1):
        await self.point(x, y)
        for number in range(1, count + 1):
            await self._mouse("mousePressed", x, y, number)
            await self._mouse("mouseReleased", x, y, number)

    async def drag(self, start, end):
        """Press the mouse at one place and release it at another."""
        await self.point(*start)
        await self._mouse("mousePressed", *start, 1)
        for part in (0.3, 0.6, 1.0):
            moved = [a + (b - a) * part for a, b in zip(start, end, strict=True)]
            await self._mouse("mouseMoved", *moved, 0, buttons=1)
        await self._mouse("mouseReleased", *end, 1)

    async def _mouse(self, kind, x, y, count=0, buttons=0):
        button = {"button": "left"} if count or buttons else {}
        await self.send(
            "Input.dispatchMouseEvent",
            type=kind, x=x, y=y, clickCount=count, buttons=buttons, **button,
        )  # fmt: skip

    # --- What can be kept ---

    async def screenshot(self, *, whole=False):
        """Return what is in the window, or the whole page, as a PNG."""
        shot = await self.send("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    async def print(self):
        """Return the page as a PDF."""
        printed = await self.send("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(printed["data"])
