"""The report page in a browser: size, time to write and to load; and the documentation's pictures.

    python benchmarks/report.py --write                           # 100 runs of 1000 rows
    python benchmarks/report.py --pictures runs/compare docs/report

Needs `playwright` and Debian's chromium (`make browser` installs both).
"""

import argparse
import csv
import io
import json
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

import retain
from machine import machine_line
from retain.train import checkpoint as store

RESULTS = Path(__file__).parent / "results" / "report.md"
FLAGS = ["--no-sandbox", "--disable-gpu"]
RUNS, ROWS, METRICS, EPISODES = 50, 1000, 24, 5000
SCREENS = {  # width, height, colours
    "light": (1280, 960, "light"), "dark": (1280, 960, "dark"), "phone": (390, 844, "light"),
}  # fmt: skip


def write_runs(folder: Path) -> None:
    """Fifty runs each of two memories, with random walks as metrics."""
    rng = np.random.default_rng(0)
    for memory in ("none", "lstm"):
        facts = retain.PPO("CartPoleNoVel-v1", memory=memory).description() | {"steps": ROWS * 2048}
        for seed in range(1, RUNS + 1):
            run = folder / memory / f"seed{seed}"
            run.mkdir(parents=True)
            facts["run"]["seed"] = seed
            store.write_json(run / store.CONFIG, facts)
            step = np.arange(1, ROWS + 1) * 2048
            walks = rng.normal(size=(METRICS, ROWS)).cumsum(1)
            with (run / "metrics.csv").open("w", newline="") as file:
                rows = csv.writer(file)
                names = [f"metric_{n}" for n in range(METRICS)]
                rows.writerow(["step", "episodes", "seconds", "return_mean", *names])
                rows.writerows(
                    np.stack([step, step / 50, step / 3000, walks[0], *walks], 1).tolist()
                )
            line = {"env": 0, "episode": 0, "seed": 1, "first": 0, "length": 50, "ret": 50.0}
            lines = (json.dumps(line | {"first": 50 * n}) + "\n" for n in range(EPISODES))
            (run / "episodes.jsonl").write_text("".join(lines))


def measure(browser: Browser, *, write: bool) -> None:
    """Prints what a page of all runs costs."""
    with tempfile.TemporaryDirectory() as folder:
        write_runs(Path(folder) / "runs")
        began = time.perf_counter()
        page = retain.report(Path(folder) / "runs", out=Path(folder) / "page.html")
        written = time.perf_counter() - began
        loads, works = zip(*(load(browser, page) for _ in range(5)), strict=True)
        found = (
            f"{2 * RUNS} runs of {ROWS} rows: written in {written:.1f} s, "
            f"{page.stat().st_size / 1e6:.1f} MB, loaded in {np.median(loads):.2f} s, "
            f"{np.median(works):.2f} s of the browser's main thread until the curves are drawn"
        )
    print(found)
    if write:
        RESULTS.write_text(f"# The report page\n\n{machine_line()}; medians of five.\n\n{found}.\n")


def load(browser: Browser, path: Path) -> tuple[float, float]:
    """Seconds until the page is loaded, and CPU seconds until its first figure is drawn."""
    page = browser.new_page()
    meter = page.context.new_cdp_session(page)
    meter.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(path.as_uri())
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector("#curves .main-svg")
    found = {one["name"]: one["value"] for one in meter.send("Performance.getMetrics")["metrics"]}
    page.close()
    return loaded, found["TaskDuration"]


def take_pictures(browser: Browser, run: Path, out: Path) -> None:
    """Writes a picture of the learning curves for each screen, small enough for a repository."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        page_file = retain.report(run, out=Path(folder) / "page.html")
        for name, (width, height, scheme) in SCREENS.items():
            tab = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                device_scale_factor=1,
            )
            page = tab.new_page()
            page.goto(page_file.as_uri())
            page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
            page.evaluate("scrollTo(0, document.getElementById('controls').offsetTop - 10)")
            page.wait_for_selector("#curves .main-svg")
            page.wait_for_timeout(1500)
            picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
            path = out / f"{name}.png"
            picture.quantize(128).save(path, optimize=True)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
            tab.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", nargs=2, type=Path, metavar=("RUN", "OUT"))
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/report.md")
    options = parser.parse_args()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        if options.pictures:
            take_pictures(browser, *options.pictures)
        else:
            measure(browser, write=options.write)
        browser.close()


if __name__ == "__main__":
    main()
