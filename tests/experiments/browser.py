"""A headless Chromium for tests, spoken to over a pipe: no package, no port, no driver.

The commands are those of the Chrome DevTools Protocol,
https://chromedevtools.github.io/devtools-protocol/.
"""

import base64
import json
import os
from pathlib import Path
import select
import shutil
import subprocess
import sys

BINARIES = (
  "chromium",
  "chromium-browser",
  "google-chrome",
  "google-chrome-stable",
  "chrome",
  "chrome-headless-shell",
)
OPTIONS = (
  "--headless",
  "--remote-debugging-pipe",
  "--no-sandbox",  # a container's root has none; nothing but our own file is opened
  "--disable-gpu",
  "--disable-dev-shm-usage",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--hide-scrollbars",
)
# Chromium reads commands from descriptor 3 and writes answers to descriptor 4.
PLACE_PIPES = (
  "import fcntl, os, sys\n"
  "high = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]\n"
  "os.dup2(high[0], 3)\n"
  "os.dup2(high[1], 4)\n"
  "os.execv(sys.argv[3], sys.argv[3:])\n"
)
PATIENCE = 300.0  # seconds without a word until a browser is taken for dead


def find_chromium():
  """Path of a Chromium or Chrome on the PATH, or None."""
  return next((path for name in BINARIES if (path := shutil.which(name))), None)


class Browser:
  """One process of Chromium."""

  def __init__(self, binary, directory):
    self.directory = Path(directory)
    to_read, self._write = os.pipe()
    self._read, to_write = os.pipe()
    profile = f"--user-data-dir={self.directory / 'profile'}"
    command = [sys.executable, "-c", PLACE_PIPES, str(to_read), str(to_write), binary]
    with (self.directory / "chromium.log").open("wb") as log:
      self._process = subprocess.Popen(
        [*command, *OPTIONS, profile, "about:blank"],
        pass_fds=(to_read, to_write),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
      )
    os.close(to_read)
    os.close(to_write)
    self._received = b""
    self._last = 0
    self._pages = {}

  def close(self):
    """Ends the process."""
    self._process.kill()
    self._process.wait()
    os.close(self._read)
    os.close(self._write)

  def open(self, path, *, width, height=900, scripts=True):
    """Loads a file in a window of its own, as wide as that."""
    target = self.call("Target.createTarget", url="about:blank")["targetId"]
    session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    page = self._pages[session] = Page(self, session)
    for domain in ("Page", "Runtime", "Log", "Network"):
      page.call(f"{domain}.enable")
    page.call("Emulation.setScriptExecutionDisabled", value=not scripts)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    page.call("Page.navigate", url=Path(path).absolute().as_uri())
    while not page.is_loaded:
      self._take()
    return page

  def call(self, method, session=None, **parameters):
    """Gives a command and returns what it answers."""
    self._last += 1
    number = self._last
    message = {"id": number, "method": method, "params": parameters}
    message |= {"sessionId": session} if session else {}
    content = json.dumps(message).encode() + b"\0"
    while content:
      content = content[os.write(self._write, content) :]
    while True:
      answer = self._take()
      if answer.get("id") == number:
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

  def _take(self):
    """The next message; pages keep what is theirs."""
    while b"\0" not in self._received:
      ready, _, _ = select.select([self._read], [], [], PATIENCE)
      read = os.read(self._read, 1 << 16) if ready else b""
      said = (self.directory / "chromium.log").read_text(errors="replace")[-2000:]
      assert read, f"Chromium says nothing any more:\n{said}"
      self._received += read
    content, _, self._received = self._received.partition(b"\0")
    message = json.loads(content)
    page = self._pages.get(message.get("sessionId"))
    if page is not None and "method" in message:
      page.note(message["method"], message["params"])
    return message


class Page:
  """One page, with what it complained about and what it asked for."""

  def __init__(self, browser, session):
    self._browser, self._session = browser, session
    self.is_loaded = False
    self.errors = []
    self.requests = []

  def call(self, method, **parameters):
    """Gives a command about this page."""
    return self._browser.call(method, self._session, **parameters)

  def run(self, script):
    """Value of an expression in the page; a promise is waited for."""
    answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
    assert "exceptionDetails" not in answer, answer["exceptionDetails"]
    return answer["result"].get("value")

  def click(self, selector):
    """Presses the mouse in the middle of the first element that matches."""
    x, y = self.run(
      f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
      " e.scrollIntoView({block: 'center', behavior: 'instant'});"
      " const r = e.getBoundingClientRect();"
      " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
      self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

  def screenshot(self, path, *, height):
    """Writes a picture of the page from its top."""
    width = self.run("innerWidth")
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    answer = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    Path(path).write_bytes(base64.b64decode(answer["data"]))

  def pdf(self):
    """The page as it is printed."""
    answer = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)
    return base64.b64decode(answer["data"])

  def note(self, method, parameters):
    """Keeps errors and requests."""
    if method == "Page.loadEventFired":
      self.is_loaded = True
    elif method == "Runtime.exceptionThrown":
      self.errors.append(str(parameters["exceptionDetails"]))
    elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning"):
      self.errors.append(str(parameters["args"]))
    elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
      self.errors.append(parameters["entry"]["text"])
    elif method == "Network.requestWillBeSent":
      self.requests.append(parameters["request"]["url"])
