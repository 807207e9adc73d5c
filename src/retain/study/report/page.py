"""Assembles the page: one HTML file that needs nothing else.

Text from a run folder reaches the page only as escaped text (the template escapes by itself) or as
JSON without "<". Should anything slip through, the page's own policy lets no script run but the
page's, whose digests it lists, and lets nothing be fetched.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retain._version import __version__
from retain.errors import UsageError
from retain.study.report.commands import commands
from retain.study.report.finding import Collection
from retain.study.report.panels import constants, payload
from retain.study.report.settings_tables import (
    Recipes,
    all_settings,
    what_changed,
    what_differs,
    what_followed,
)
from retain.study.report.tables import (
    Table,
    episodes_table,
    evaluations_table,
    finals_table,
    left_table,
    memory_table,
    runs_table,
    show,
    told_table,
)

HERE = Path(__file__).parent
SCRIPTS = ("figures.js", "controls.js")
TRACEBACK = 4000
"""Characters of a traceback on the page, from its end."""


@dataclass(frozen=True)
class Video:
    """A film of an episode.

    Args:
        name: what it shows.
        mime: image/gif or video/mp4.
        content: the file.
    """

    name: str
    mime: str
    content: bytes

    @property
    def url(self) -> str:
        """The film as a data URL."""
        return f"data:{self.mime};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True)
class Page:
    """A page in parts, so that a served one can be refreshed without loading it again.

    Args:
        main: the sections as HTML.
        data: what the script draws, as JSON values.
    """

    title: str
    main: str
    data: dict[str, Any]

    def html(self, *, live: bool = False) -> str:
        """The whole page.

        Args:
            live: the page asks its server for changes.
        Raises:
            UsageError: plotly is not installed.
        """
        script = "\n".join((HERE / name).read_text() for name in SCRIPTS)
        style = (HERE / "page.css").read_text()
        library = plotly()
        return str(
            _templates().get_template("page.html").render(
                title=self.title, main=_safe(self.main), style=_safe(style),
                data=_safe(as_data(self.data)), library=_safe(library), script=_safe(script),
                policy=policy([library, script], live=live), live=live, version=__version__,
            )
        )  # fmt: skip


def policy(scripts: Sequence[str], *, live: bool) -> str:
    """The content security policy: these scripts run, and nothing is fetched from elsewhere."""
    digests = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        f"img-src data: blob:; media-src data:; connect-src {chr(39)}{'self' if live else 'none'}"
        f"{chr(39)}; base-uri 'none'; form-action 'none'"
    )


def as_data(value: Any) -> str:
    """JSON for a `<script>` element, from which no tag can begin or end."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def plotly() -> str:
    """The plotting library's own minified file.

    Raises:
        UsageError: it is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise UsageError(
            "a report needs an extra that is not installed: pip install 'retain[report]'"
        ) from None
    return str(get_plotlyjs())


def _templates() -> Any:
    try:
        import jinja2
    except ImportError:
        raise UsageError(
            "a report needs an extra that is not installed: pip install 'retain[report]'"
        ) from None
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip


def _safe(html: str) -> Any:
    """HTML that this package wrote or escaped itself."""
    import markupsafe

    return markupsafe.Markup(html)


def assemble(collection: Collection, *, videos: Sequence[Video] = (), trust: bool = False) -> Page:
    """The page of a collection.

    Args:
        trust: import the modules that the runs' configurations name.
    """
    from retain.study.report.prose import markdown

    recipes, data = Recipes(collection, trust=trust), payload(collection)
    sections = {panel["section"] for panel in data["panels"]}
    problems = [*collection.problems, *recipes.problems]
    problems += [line for one in collection.runs for line in one.run.problems]
    main = _templates().get_template("main.html").render(
        collection=collection, sections=sections, facts=_facts(collection),
        runs=runs_table(collection), differs=what_differs(collection, recipes),
        changed=what_changed(collection, recipes), followed=what_followed(collection, recipes),
        settings=all_settings(collection, recipes),
        summaries=[(one, _safe(markdown(one.text))) for one in collection.summaries],
        left=left_table(collection), told=told_table(collection),
        episodes=episodes_table(collection), evaluations=evaluations_table(collection),
        finals=finals_table(collection), memory=memory_table(collection),
        incidents=_incidents(collection), tracebacks=_tracebacks(collection),
        doctors=_doctors(collection), videos=videos, commands=commands(collection, recipes),
        constants=[(name, show(value)) for name, value in constants(collection).items()],
        problems=list(dict.fromkeys(problems)),
    )  # fmt: skip
    return Page(collection.title, str(main), data)


def _facts(collection: Collection) -> str:
    """What the page is about, in a line."""
    runs, groups, tasks = collection.runs, collection.groups, collection.tasks
    parts = [_counted(len(runs), "run")]
    if 1 < len(groups) < len(runs):
        parts.append(f"in {len(groups)} groups")
    known = [task for task in tasks if task]
    if known:
        parts.append("on " + (known[0] if len(known) == 1 else f"{len(known)} environments"))
    return " ".join(parts)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _incidents(collection: Collection) -> Table:
    rows, tasks = [], []
    for one in collection.runs:
        for fault in one.run.incidents:
            lines = str(fault.get("traceback", "")).strip().splitlines() or [""]
            where = "a worker" if fault["env_index"] < 0 else str(fault["env_index"])
            episode = "" if fault["env_index"] < 0 else f"{fault['episode']} (seed {fault['seed']})"
            step = str(len(fault.get("actions", ()))) if fault["env_index"] >= 0 else ""
            rows.append((one.name, fault["kind"], where, episode, step, lines[-1][:300]))
            tasks.append(one.run.env)
    head = ("run", "fault", "environment", "episode", "step", "what it said")
    return Table("Faults in the environments", head, tuple(rows), tuple(tasks))


def _tracebacks(collection: Collection) -> list[tuple[str, str]]:
    """The distinct tracebacks, each with the first run that had it."""
    found: dict[str, str] = {}
    for one in collection.runs:
        for fault in one.run.incidents:
            text = str(fault.get("traceback", "")).strip()
            if "\n" in text:
                found.setdefault(text[-TRACEBACK:], f"{one.name}: {fault['kind']}")
    return [(name, text) for text, name in found.items()][:20]


def _doctors(collection: Collection) -> list[tuple[str, Table]]:
    """The doctor's results of each run that has them, the bad ones first."""
    order = {"fail": 0, "warn": 1}
    found = []
    for one in collection.runs:
        results = sorted(one.run.doctor, key=lambda result: order.get(result["verdict"], 2))
        rows = tuple(
            (r["name"], r["verdict"], r["measured"][:500],
             " ".join(filter(None, (r.get("meaning", ""), r.get("mend", ""))))[:1000])
            for r in results
        )  # fmt: skip
        if rows:
            head = ("check", "verdict", "measured", "what it means, and how to mend it")
            found.append((one.name, Table(f"The doctor on {one.name}", head, rows)))
    return found
