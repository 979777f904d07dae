"""How smoothly the page of `ravine surface` moves: times of frames in headless Chromium.

Six optimizers walk at 60 steps a second for five seconds; the page, altered only so far that it tells its times,
counts the time from one frame to the next and what its own script takes of each. Needs Chromium or Chrome.

    python benchmarks/surface_page.py
"""

import json
import shutil
import statistics
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIMIZERS = (
    "sgd(lr=0.01), momentum(lr=0.001), nesterov(lr=0.001), rmsprop(lr=0.01), adam(lr=0.05), sam(sgd(lr=0.01), rho=0.1)"
)
SECONDS = 5
TIMES = """
<script>
  const spent = [], ticks = [], ask = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (draw) => ask((time) => {
    const before = performance.now();
    draw(time);
    spent.push(performance.now() - before);
  });
</script>
"""
MEASURE = """
  await sleep(1000);
  document.getElementById("speed").value = "60";
  document.getElementById("again").click();
  await sleep(200);
  spent.length = 0;
  const count = (time) => { ticks.push(time); ask(count); };
  ask(count);
  await sleep(SECONDS * 1000);
  return { ticks, spent, step: document.getElementById("clock").textContent, width: innerWidth };
"""


def browser() -> str | None:
    """The Chromium on this machine, or None."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


def in_browser(page: str, script: str, size: tuple[int, int] = (1280, 900), before: str = "") -> Any:
    """What the body of an asynchronous function returns in a browser that shows `page`.

    before: put in front of the page's own script. The page's ban on networks is lifted, so that the result gets out.
    """
    program = browser()
    if program is None:
        raise RuntimeError(f"no browser is found: install one of {', '.join(BROWSERS)}")
    start = page.index('<meta http-equiv="Content-Security-Policy"')
    open_page = page[:start] + before + page[page.index(">", start) + 1 :]
    ending = (
        "<script>const sleep = (ms) => new Promise((done) => setTimeout(done, ms));\n"
        f"(async () => {{{script}}})().then((found) => ({{found}}), (error) => ({{error: String(error.stack)}}))"
        '.then((told) => fetch("/told", {method: "POST", body: JSON.stringify(told)}));</script></body>'
    )
    told: dict[str, Any] = {}
    server = _server(open_page.replace("</body>", ending), told)
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder}"]
        place = f"http://127.0.0.1:{server.server_port}/"
        command = [program, *flags, f"--window-size={size[0]},{size[1]}", place]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            server.serve_forever(poll_interval=0.05)  # until the page has told, or a minute is over
        finally:
            process.terminate()
            process.wait(10)
            server.server_close()
    if "found" not in told:
        raise RuntimeError(told.get("error", "the page told nothing within a minute"))
    return told["found"]


def _server(page: str, told: dict[str, Any]) -> HTTPServer:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page.encode())

        def do_POST(self) -> None:
            told.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            threading.Thread(target=server.shutdown).start()

        def log_message(self, *_: Any) -> None:
            """Requests are not told: what is printed is the result."""

    server = HTTPServer(("127.0.0.1", 0), Answers)
    limit = threading.Timer(60, server.shutdown)
    limit.daemon = True
    limit.start()
    return server


def frames(seconds: int = SECONDS) -> dict[str, Any]:
    """Milliseconds from frame to frame, and of script in each, while six optimizers walk."""
    from ravine.surfaces import find, trajectories
    from ravine.surfaces.page import page

    ground = find("beale")
    made = page(ground, trajectories(ground, OPTIMIZERS, steps=60 * (seconds + 3)))
    found = in_browser(made, MEASURE.replace("SECONDS", str(seconds)), before=TIMES)
    between = [b - a for a, b in zip(found["ticks"], found["ticks"][1:], strict=False)]
    return {"bytes": len(made.encode()), "between": between, "script": found["spent"], "step": found["step"]}


def main() -> None:
    """Print the table."""
    if browser() is None:
        print(f"skipped: no browser is found ({', '.join(BROWSERS)})")
        return
    found = frames()
    print(f"page of {found['bytes'] / 1e3:.0f} kB, six optimizers at 60 steps a second, clock at {found['step']}")
    print(f"{'':28}{'frames':>8}{'median ms':>12}{'95 % ms':>10}{'most ms':>10}")
    for name, values in (("from frame to frame", found["between"]), ("script within a frame", found["script"])):
        high = statistics.quantiles(values, n=20)[-1]
        print(f"{name:28}{len(values):8}{statistics.median(values):12.2f}{high:10.2f}{max(values):10.2f}")


if __name__ == "__main__":
    main()
