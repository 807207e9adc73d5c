"""What an accelerator does: Atari, off-policy MuJoCo and the memories' unrolls.

    python benchmarks/gpu.py --parts speed offpolicy unroll    # a quarter of an hour
    python benchmarks/gpu.py --parts atari                     # hours: 10 million steps a run
    python benchmarks/gpu.py --device cpu --share 0.001        # the script itself, tried anywhere

Every finished case is a line of results/gpu.jsonl, with its date and device; what is there for this
device is not run again. `--print` writes results/gpu.md.

- atari: Pong and Breakout, PPO and PPO-LSTM with their presets, `--workers` for the emulators. The
  last 100 episodes' mean return and minutes. CleanRL's own pages have 20.4 and 415 without a
  memory, 19.8 and 113 to 129 with an LSTM over single frames.
- speed: the same on Pong for 200 thousand steps.
- offpolicy: SAC and TD3 on HalfCheetah, [256, 256], one update a step: steps per second.
- unroll: each memory's forward and backward, H = 128, T = 128: milliseconds.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

import retain
from machine import machine_line
from retain.memory import make_memory
from retain.types import tree_map

RESULTS = Path(__file__).parent / "results"
LINES, PAGE = RESULTS / "gpu.jsonl", RESULTS / "gpu.md"
GAMES = ("ALE/Pong-v5", "ALE/Breakout-v5")
MEMORIES = ("lstm", "gru", "mingru", "lru", "attention", "delta")
WAYS: dict[str, dict[str, Any]] = {
    "eager": {}, "compiled": {"compile": True}, "bfloat16": {"precision": "bfloat16"},
}  # fmt: skip
Case = tuple[str, str]
"""A part, and the name of a case in it."""


def waiting(device: str) -> None:
    """Waits until the device has done everything that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def learning(
    algo: str, env: str, steps: int, device: str, warm: int, **settings: Any
) -> dict[str, float]:
    """Steps per second after the first `warm`, which include compiling, and the last returns."""
    agent = getattr(retain, algo)(env, device=device, seed=1, **settings)
    began = time.perf_counter()
    agent.learn(warm)
    waiting(device)
    first, start = time.perf_counter() - began, agent.steps
    began = time.perf_counter()
    agent.learn(steps)
    waiting(device)
    spent = time.perf_counter() - began
    recent = [episode.ret for episode in agent.collector.statistics.recent]
    found = {
        "steps": agent.steps, "steps/s": round((agent.steps - start) / spent, 1),
        "first seconds": round(first, 1), "minutes": round((first + spent) / 60, 2),
    }  # fmt: skip
    return found | ({"return": round(statistics.mean(recent), 2)} if recent else {})


def unroll(name: str, B: int, device: str, rounds: int) -> dict[str, float]:
    """Median milliseconds of forward and backward, with 3 % resets."""
    T, H = 128, 128
    torch.manual_seed(0)
    memory = make_memory(name, 64, H, 1).to(device)
    x = torch.randn(T, B, 64, device=device)
    carry = tree_map(lambda leaf: leaf.to(device), memory.initial_carry(B))
    reset = torch.rand(T, B, device=device) < 0.03
    times = []
    for _ in range(rounds + 3):
        waiting(device)
        began = time.perf_counter()
        out, _ = memory(x, carry, reset)
        out.sum().backward()
        waiting(device)
        times.append((time.perf_counter() - began) * 1e3)
    return {"ms": round(statistics.median(times[3:]), 3)}


def cases(options: argparse.Namespace) -> Iterator[tuple[Case, Callable[[], dict[str, float]]]]:
    """Every case, by part and name."""
    device, share = options.device, options.share
    atari = partial(learning, "PPO", device=device, warm=2048, workers=options.workers)
    mujoco = partial(
        learning, env="HalfCheetah-v5", steps=max(1, int(5000 * share)), device=device, warm=300,
        preset="none", hidden=(256, 256), batch_size=256, learning_starts=200, update_ratio=1.0,
        num_envs=1,
    )  # fmt: skip
    for steps, part, games in ((10_000_000, "atari", GAMES), (200_000, "speed", GAMES[:1])):
        steps = max(1, int(steps * share))
        for game, memory, how in product(games, ("none", "lstm"), WAYS):
            run = partial(atari, game, steps, memory=memory, **WAYS[how])
            yield (part, f"{game}, {memory}, {how}"), run
    for algo, how in product(("SAC", "TD3"), ("eager", "compiled")):
        yield ("offpolicy", f"{algo}, {how}"), partial(mujoco, algo, **WAYS[how])
    for name, B in product(MEMORIES, (8, 32, 256)):
        run = partial(unroll, name, B, device, max(2, int(50 * share)))
        yield ("unroll", f"{name}, B = {B}"), run


def read() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def page(lines: list[dict[str, Any]]) -> str:
    """The results, a table for each device and part."""
    out = ["# On an accelerator", "", "`python benchmarks/gpu.py`, whose head says what it runs."]
    for device, part in dict.fromkeys((line["device"], line["part"]) for line in lines):
        chosen = [line for line in lines if (line["device"], line["part"]) == (device, part)]
        names = list(dict.fromkeys(name for line in chosen for name in line["found"]))
        out += ["", f"## {part}: {device}", "", f"| {part} | " + " | ".join(names) + " | date |"]
        out += ["|---" * (len(names) + 2) + "|"]
        for line in chosen:
            found = line["found"]
            cells = [f"{found[name]:,g}" if name in found else "" for name in names]
            out.append(f"| {line['case']} | {' | '.join(cells)} | {line['date']} |")
    return "\n".join(out) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--parts", nargs="+", default=["speed", "offpolicy", "unroll", "atari"],
                        choices=["speed", "offpolicy", "unroll", "atari"])  # fmt: skip
    parser.add_argument("--workers", type=int, default=0, help="processes of the emulators")
    parser.add_argument("--share", type=float, default=1.0, help="of each case's steps")
    parser.add_argument("--print", action="store_true", help="write results/gpu.md, run nothing")
    options = parser.parse_args()
    if not options.print:
        cuda = options.device.startswith("cuda")
        on = torch.cuda.get_device_name(options.device) if cuda else "CPU"
        device = f"{on}; {machine_line().split(', ', 1)[1]}"
        done = {(line["device"], line["part"], line["case"]) for line in read()}
        for (part, name), run in cases(options):
            if part not in options.parts or (device, part, name) in done:
                continue
            facts = {"date": date.today().isoformat(), "device": device, "part": part, "case": name}
            facts["found"] = run()
            print(json.dumps(facts), flush=True)
            if options.share == 1.0:
                with LINES.open("a") as file:
                    file.write(json.dumps(facts) + "\n")
    if lines := read():
        PAGE.write_text(page(lines))


if __name__ == "__main__":
    main()
