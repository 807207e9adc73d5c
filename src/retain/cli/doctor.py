"""`retain doctor ALGO`"""

import json
import time
from dataclasses import fields, make_dataclass

from rich.console import Console

from retain.cli.flags import parse
from retain.cli.train import agent_of, algorithm, defaults
from retain.doctor import Result, examine


def command(arguments: list[str]) -> int:
    """Examines an algorithm with a memory on an environment; exit status 1 if anything fails."""
    algo, rest = algorithm("doctor", arguments)
    default = defaults(algo, rest)
    extra = [("probes", bool, True), ("json", bool, False)]
    kind = make_dataclass("DoctorOptions", extra, bases=(type(default),), frozen=True, kw_only=True)
    values = {f.name: getattr(default, f.name) for f in fields(default)}
    options = parse(
        kind,
        rest,
        verb=f"doctor {algo}",
        default=kind(**values),
        description="Check an environment, a memory and an algorithm together: what is broken, "
        "what was measured, and how to fix it. --no-probes skips all training (tiny tasks, and "
        "half a minute with your settings).",
    )
    console = Console(stderr=options.json)
    began = time.monotonic()
    agent = agent_of(algo, options, rest)

    def saw(result: Result) -> None:
        if console.is_terminal and not options.json:
            console.print(f"  {result.verdict:<5}{result.name}", highlight=False)

    report = examine(agent, probes=options.probes, saw=saw)
    if options.json:
        print(json.dumps(report.to_json()))
    else:
        report.show(console)
        count = len(report.results)
        warned = sum(result.verdict == "warn" for result in report.results)
        console.print(
            f"\n{count} checks in {time.monotonic() - began:.0f} s: {len(report.failed)} failed, "
            f"{warned} warnings"
        )
    return 0 if report.ok else 1
