"""Plays a film in headless chromium and says what the page saw."""

import functools
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-file-access-from-files",
)

# Loads, plays until time has passed, seeks, looks at one row of the picture, plays the end.
_PAGE = """<!doctype html><title>player</title><video id=v></video><script>
const v = document.getElementById("v"), seen = {};
const event = name => new Promise((resolve, reject) => {
  v.addEventListener(name, resolve, {once: true});
  v.addEventListener("error", () => reject(v.error.message), {once: true});
});
(async () => {
  v.src = "film.mp4";
  await event("loadedmetadata");
  seen.duration = v.duration;
  seen.size = [v.videoWidth, v.videoHeight];
  await v.play();
  while (v.currentTime < 0.5) await event("timeupdate");
  seen.played = v.currentTime;
  seen.soundBytes = v.webkitAudioDecodedByteCount;
  v.pause();
  v.currentTime = %(seek)s;
  await event("seeked");
  seen.at = v.currentTime;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [256, 144];
  const context = canvas.getContext("2d");
  context.drawImage(v, 0, 0, 256, 144);
  seen.row = [...context.getImageData(0, 18, 256, 1).data].filter((_, i) => i %% 4 == 1);
  v.currentTime = v.duration - 0.3;
  await event("seeked");
  await Promise.all([event("ended"), v.play()]);
  seen.durationAtTheEnd = v.duration;
})().catch(error => seen.error = String(error)).finally(
  () => fetch("%(report)s", {method: "POST", mode: "no-cors", body: JSON.stringify(seen)}));
</script>"""


def play(film: bytes, folder: Path, *, seek: float, served: bool) -> dict[str, Any]:
    """Play a film, served over HTTP with ranges or opened as a saved file; return what was seen."""
    assert CHROMIUM is not None
    reported = threading.Event()
    seen: dict[str, Any] = {}

    def report(body: bytes) -> None:
        seen.update(json.loads(body))
        reported.set()

    site = folder / "site"
    site.mkdir()
    (site / "film.mp4").write_bytes(film)
    handler = functools.partial(_Handler, report, str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        page = _PAGE % {"seek": seek, "report": f"{address}/report"}
        (site / "player.html").write_text(page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"{address}/player.html" if served else (site / "player.html").as_uri()
        browser = subprocess.Popen(
            [CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            assert reported.wait(120), f"chromium ended with {browser.poll()}, nothing reported"
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
            server.shutdown()
    return seen


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder with ranges, and takes the page's report."""

    protocol_version = "HTTP/1.1"

    def __init__(self, report: Any, folder: str, *args: Any) -> None:
        self._report = report
        super().__init__(*args, directory=folder)

    def log_message(self, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        self._report(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            super().do_GET()
            return
        data = Path(self.translate_path(self.path)).read_bytes()
        first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self.wfile.write(data[first : last + 1])
