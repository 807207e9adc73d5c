"""Does a long run stay as large as it was? `benchmarks/longrun.py --minutes 60`

Trains SAC with an LSTM in worker processes, the replay full after a few minutes, and notes once a
minute what the trainer and its workers hold: resident memory, file descriptors, threads. The rows
are appended to benchmarks/results/longrun.csv as they come; `--report` writes the page of them.
"""

import argparse
import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "benchmarks/results/longrun.csv"
PAGE = ROOT / "benchmarks/results/longrun.md"
COMMAND = (
    "sac --env PendulumNoVel-v1 --memory lstm --workers 2 --num-envs 4 --hidden 32 "
    "--memory-hidden 32 --batch-size 64 --sequence-length 16 --learning-starts 500 "
    "--buffer-size 20000 --update-ratio 0.1 --num-steps 50 --checkpoint-every 5000 "
    "--steps 1000000000"
)
FIELDS = ("minute", "steps", "rss_mb", "workers_rss_mb", "files", "threads", "processes", "disk_mb")
WARM = 10
"""Minutes after which nothing should grow any more."""


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(x) for x in (task / "children").read_text().split()]
    return found


def status(pid: int) -> tuple[float, int, int]:
    """Resident megabytes, open files and threads of a process."""
    facts = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return int(facts["VmRSS"].split()[0]) / 1024, files, int(facts["Threads"])


def steps(run: Path) -> int:
    path = run / "metrics.csv"
    lines = path.read_text().splitlines() if path.exists() else []
    return int(lines[-1].split(",")[0]) if len(lines) > 1 and lines[-1][:1].isdigit() else 0


def disk(run: Path) -> float:
    """Megabytes of checkpoints and replay, which are pruned; the logs grow by design."""
    kept = [*run.glob("checkpoints/**/*"), *run.glob("replay/*")]
    return sum(path.stat().st_size for path in kept if path.is_file()) / 2**20


def measure(minutes: int, command: str) -> None:
    with tempfile.TemporaryDirectory() as folder, ROWS.open("w", newline="") as file:
        run = Path(folder) / "run"
        writer = csv.writer(file)
        writer.writerow(FIELDS)
        start = [sys.executable, "-m", "retain", "train", *command.split(), "--out", str(run)]
        process = subprocess.Popen(start, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
        began = time.monotonic()
        try:
            for minute in range(1, minutes + 1):
                time.sleep(max(0.0, began + 60 * minute - time.monotonic()))
                if process.poll() is not None:
                    raise SystemExit(f"the run ended with status {process.returncode}")
                trainer, workers = status(process.pid), [status(p) for p in children(process.pid)]
                row = (
                    minute, steps(run), f"{trainer[0]:.1f}", f"{sum(w[0] for w in workers):.1f}",
                    trainer[1], trainer[2], 1 + len(workers), f"{disk(run):.1f}",
                )  # fmt: skip
                writer.writerow(row)
                file.flush()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def report() -> str:
    with ROWS.open(newline="") as file:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
    warm = [row for row in rows if row["minute"] >= WARM]
    lines = [
        "# A long run stays as large as it was",
        "",
        f"`python benchmarks/longrun.py`, {date.today()}, {len(rows)} minutes, "
        f"{rows[-1]['steps']:,.0f} environment steps of `retain train {COMMAND}`, "
        f"{os.cpu_count()} cores shared with other work.",
        "",
        f"| | minute {warm[0]['minute']:.0f} | lowest after | highest after | last |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in FIELDS[2:]:
        values = [row[name] for row in warm]
        cells = (values[0], min(values), max(values), values[-1])
        lines.append(f"| {name} | " + " | ".join(f"{x:g}" for x in cells) + " |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--command", default=COMMAND, help="what `retain train` is given")
    parser.add_argument("--report", action="store_true", help="only write the page")
    options = parser.parse_args()
    if not options.report:
        measure(options.minutes, options.command)
    PAGE.write_text(report())
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
