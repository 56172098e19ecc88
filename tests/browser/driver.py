"""A headless Chromium, driven over WebDriver's plain HTTP."""

import base64
import json
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent

ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--hide-scrollbars", "--disable-dev-shm-usage",
]

# A page that doesn't answer within this hangs.
PATIENCE = 60


class Browser:
    """One window. Its profile is new, and gone with the folder it was given."""

    def __init__(self, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.base = f"http://127.0.0.1:{port}"
        self.driver = subprocess.Popen(
            ["chromedriver", f"--port={port}", f"--log-path={folder}/chromedriver.log"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            self.begin(folder)
        except BaseException:
            self.driver.terminate()
            raise

    def begin(self, folder):
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.ask("GET", "/status")
                break
            except (urllib.error.URLError, ConnectionError):
                if time.monotonic() > end or self.driver.poll() is not None:
                    raise
                time.sleep(0.05)
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": [*ARGS, f"--user-data-dir={folder}/profile"]},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        made = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{made['sessionId']}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.ask("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait(PATIENCE)

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        # The environment's proxies are for elsewhere.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()[:2000]}") from None

    def do(self, path, **body):
        return self.ask("POST", self.session + path, body)

    def cdp(self, command, **params):
        return self.do("/goog/cdp/execute", cmd=command, params=params)

    def open(self, url):
        self.url = url

    def look(self, scheme, width, height):
        """Loads the page anew, as somebody with such a screen has it."""
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=2 if width < 500 else 1, mobile=width < 500,
        )
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.do("/se/log", type="performance")
        self.do("/se/log", type="browser")
        self.do("/url", url=self.url)

    def requests(self):
        """What was asked for since the page was loaded."""
        messages = [json.loads(entry["message"])["message"] for entry in self.do("/se/log", type="performance")]
        asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(("data:,", "data:image/"))]

    def console(self):
        return [entry["message"] for entry in self.do("/se/log", type="browser")]

    def run(self, script, *args, helpers=False):
        if helpers:
            script = (HERE / "focus.js").read_text() + script
        return self.do("/execute/sync", script=script, args=args)

    def until(self, script, *args):
        """The answer of a script, as soon as it is one: the browser does some things a little later."""
        end = time.monotonic() + PATIENCE
        while not (answer := self.run(script, *args)) and time.monotonic() < end:
            time.sleep(0.02)
        return answer

    def keys(self, *values):
        """Presses keys, each by WebDriver's code for it, one after the other."""
        actions = [{"type": kind, "value": value} for value in values for kind in ["keyDown", "keyUp"]]
        self.do("/actions", actions=[{"type": "key", "id": "keyboard", "actions": actions}])

    def tab(self):
        self.keys("\ue004")

    def shot(self):
        """The whole page as a PNG."""
        size = self.cdp("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], 8000), "scale": 1}
        taken = self.cdp("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(taken["data"])

    def paper(self):
        return base64.b64decode(self.cdp("Page.printToPDF", printBackground=False)["data"])
