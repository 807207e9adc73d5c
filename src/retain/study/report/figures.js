"use strict";
// Draws the page's figures from the data in it; controls.js follows.

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif';
const TABLE_ROWS = 300;
const MANY = 12; // curves, above which each is drawn faintly
const byId = (id) => document.getElementById(id);
const root = document.documentElement;

let data = JSON.parse(byId("data").textContent);
const shown = { axis: "step", smoothing: 0, part: 1, task: "", seeds: true, means: true };
const hiddenGroups = new Set(); // names, which outlast a refresh
const hiddenRuns = new Set();
const figures = new Map(); // by section and metric
let printing = false;

// --- colours -------------------------------------------------------------------------------------

const wantsDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => !printing &&
  (root.dataset.theme ? root.dataset.theme === "dark" : wantsDark.matches);

/** A group's colour; on dark ground a third of the way to white, so that it keeps its hue. */
function colourOf(group, alpha = 1) {
  const hex = data.groups[group].colour;
  const mix = isDark() ? 0.35 : 0;
  const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
  return `rgba(${parts.map((c) => Math.round(c + (255 - c) * mix)).join(",")},${alpha})`;
}

const PAPER = { "--line": "#bbb", "--text": "#000", "--back": "#fff" };
const cssColour = (name) => printing ? PAPER[name] : getComputedStyle(root).getPropertyValue(name).trim();

// --- curves --------------------------------------------------------------------------------------

/** Text for the plotting library, which takes some tags and templates in it as its own. */
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

const visibleRun = (index) => {
  const run = data.runs[index];
  const group = data.groups[run.group];
  return group.task === shown.task && !hiddenGroups.has(group.name) && !hiddenRuns.has(run.name);
};

const severalIn = (group) => data.runs.filter((run) => run.group === group).length > 1;

/** Horizontal positions of a curve: its own, or the run's rows that it keeps. */
function positions(curve) {
  if (curve.x) return curve.x[shown.axis] ?? [];
  const all = data.runs[curve.run].x[shown.axis] ?? [];
  return curve.rows ? curve.rows.map((row) => all[row]) : all;
}

/** An exponential mean over a stretch of the axis, whatever the distance between points. */
function smooth(x, y, length) {
  if (!(length > 0)) return y;
  let mean = null;
  return y.map((value, at) => {
    if (value === null) return null;
    const weight = mean === null ? 1 : 1 - Math.exp(-(x[at] - x[at - 1]) / length);
    mean = mean === null ? value : mean + weight * (value - mean);
    return mean;
  });
}

const timeUnit = (most) => most > 7200 ? ["hours", 3600] : most > 120 ? ["minutes", 60] : ["seconds", 1];

function lastOf(values) {
  for (let at = values.length - 1; at >= 0; at--) if (values[at] !== null) return values[at];
  return null;
}

/** The curves of a panel that are shown: [{x, y, name, group, dash, half?, mean}]. */
function curvesOf(panel) {
  const found = [];
  if (shown.seeds || !shown.means || !panel.means.length) {
    for (const curve of panel.curves) {
      if (!visibleRun(curve.run)) continue;
      const run = data.runs[curve.run];
      found.push({ x: positions(curve), y: curve.y, name: run.name, group: run.group, dash: curve.dash });
    }
  } else {
    for (const curve of panel.curves) { // groups of one run have no mean
      const run = data.runs[curve.run];
      if (visibleRun(curve.run) && !severalIn(run.group)) {
        found.push({ x: positions(curve), y: curve.y, name: run.name, group: run.group, dash: curve.dash });
      }
    }
  }
  if (shown.means) {
    for (const mean of panel.means) {
      const group = data.groups[mean.group];
      const axis = mean.axes[shown.axis];
      if (!axis || group.task !== shown.task || hiddenGroups.has(group.name)) continue;
      found.push({ ...axis, group: mean.group, dash: mean.dash, mean: true,
        name: `${group.name}, mean of ${mean.n}` });
    }
  }
  return found;
}

function tracesOf(panel) {
  const curves = curvesOf(panel).filter((curve) => curve.x.length);
  const most = Math.max(1e-9, ...curves.map((curve) => lastOf(curve.x) ?? 0));
  const [unit, scale] = shown.axis === "seconds" ? timeUnit(most) : ["steps", 1];
  const low = most * (1 - shown.part);
  const traces = [];
  const many = curves.filter((curve) => !curve.mean).length > MANY;
  const drawnMeans = new Set(curves.filter((curve) => curve.mean).map((curve) => curve.group));
  for (const curve of curves) {
    const y = panel.marks ? curve.y : smooth(curve.x, curve.y, shown.smoothing * most);
    const keep = curve.x.map((x, at) => at).filter((at) => curve.x[at] >= low);
    const x = keep.map((at) => curve.x[at] / scale);
    const faint = !curve.mean && (many || drawnMeans.has(curve.group));
    const common = { x, type: "scatter", hovertemplate:
      `%{y:.4~g} at %{x:,.4~r} ${unit}<extra>%{fullData.name}</extra>`, name: plain(curve.name) };
    if (curve.half) {
      const half = smooth(curve.x, curve.half, shown.smoothing * most);
      const edge = (sign) => keep.map((at) => y[at] + sign * half[at]);
      traces.push({ x: [...x, ...[...x].reverse()], y: [...edge(1), ...edge(-1).reverse()],
        type: "scatter", mode: "lines", fill: "toself", line: { width: 0 }, hoverinfo: "skip",
        fillcolor: colourOf(curve.group, 0.15), name: "interval" });
    }
    traces.push({ ...common, y: keep.map((at) => y[at]),
      mode: panel.marks || keep.length === 1 ? "markers" : "lines",
      marker: { size: panel.marks ? 4 : 6, color: colourOf(curve.group, panel.marks ? 0.45 : 1) },
      line: { color: colourOf(curve.group, faint ? (isDark() ? 0.55 : 0.35) : 1), width: faint ? 1 : 2,
        dash: curve.dash ? "dash" : "solid" } });
  }
  return { traces, unit, curves };
}

/** The healthy range as far as the figure shows it, or its nearest edge. */
function band(panel, traces) {
  if (!panel.healthy) return [];
  const values = traces.flatMap((trace) => trace.y).filter((value) => value !== null);
  if (!values.length) return [];
  const least = values.reduce((a, b) => Math.min(a, b)), most = values.reduce((a, b) => Math.max(a, b));
  const margin = 0.06 * (most - least || Math.abs(most) || 1);
  const [low, high] = panel.healthy;
  const from = Math.max(low ?? -Infinity, least - margin), to = Math.min(high ?? Infinity, most + margin);
  const common = { xref: "paper", x0: 0, x1: 1, yref: "y", layer: "below" };
  const green = isDark() ? "86,211,100" : "26,127,55";
  if (from < to) {
    return [{ ...common, type: "rect", y0: from, y1: to, line: { width: 0 }, fillcolor: `rgba(${green},.13)` }];
  }
  const edge = least > (high ?? Infinity) ? high : low;
  return [{ ...common, type: "line", y0: edge, y1: edge, line: { color: `rgba(${green},.9)`, width: 1.5, dash: "dot" } }];
}

function layoutOf(panel, traces, unit) {
  const line = cssColour("--line"), text = cssColour("--text");
  const axis = { gridcolor: line, linecolor: line, zerolinecolor: line, automargin: true, tickfont: { size: 11 } };
  return {
    uirevision: `${shown.axis} ${shown.part} ${shown.task}`, autosize: true,
    margin: { l: 48, r: 10, t: 8, b: 38 }, showlegend: false, hovermode: "closest",
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: FONT, size: 12, color: text },
    hoverlabel: { namelength: -1, bgcolor: cssColour("--back"), font: { color: text } },
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    xaxis: { ...axis, title: { text: unit, font: { size: 11 }, standoff: 6 }, exponentformat: "SI" },
    yaxis: { ...axis, exponentformat: "power", nticks: 7 },
    shapes: band(panel, traces),
  };
}

/** What a figure says, for those who do not see it. */
function spoken(panel, curves) {
  const means = curves.filter((curve) => curve.mean);
  const lines = (means.length ? means : curves).slice(0, 8)
    .map((curve) => `${curve.name}${curve.dash ? " evaluated" : ""} ends at ${number(lastOf(curve.y))}`);
  const rest = curves.length > 8 && !means.length ? ` and ${curves.length - 8} more` : "";
  return `${panel.label}: ${lines.join("; ") || "nothing to show"}${rest}`;
}

const number = (value) => value === null || value === undefined ? "–" : Number(value.toPrecision(4)).toLocaleString("en");

// --- figures -------------------------------------------------------------------------------------

function element(name, options = {}, ...children) {
  const made = Object.assign(document.createElement(name), options);
  made.append(...children);
  return made;
}

function makeFigure(panel, section) {
  const caption = element("figcaption", { className: ["monitors", "others"].includes(panel.section) ? "metric" : "" }, panel.label);
  if (panel.range) caption.append(element("small", {}, `healthy: ${panel.range}`));
  const plot = element("div", { className: "plot" });
  plot.setAttribute("role", "img");
  const table = element("details", {}, element("summary", {}, "As a table"));
  const figure = element("figure", {}, caption, plot, table);
  const made = { panel, figure, plot, table, near: false, stale: true };
  table.addEventListener("toggle", () => fillTable(made));
  section.append(figure);
  watcher.observe(figure);
  return made;
}

const watcher = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    const made = [...figures.values()].find((one) => one.figure === entry.target);
    if (!made) continue;
    made.near = entry.isIntersecting;
  }
  requestAnimationFrame(drawNext);
}, { rootMargin: "300px" });

/** Draws one figure that has come near, and the others one by one after it is on the screen. */
function drawNext() {
  const next = [...figures.values()].find((made) => made.near && made.stale);
  if (!next) return;
  draw(next);
  requestAnimationFrame(() => setTimeout(drawNext));
}

/** The plotting library, which takes most of a second to start: begun when it is first needed. */
function library() {
  if (!window.Plotly) {
    document.head.append(element("script", { textContent: byId("library").textContent }));
  }
  return window.Plotly;
}

function draw(made) {
  const { traces, unit, curves } = tracesOf(made.panel);
  made.figure.hidden = !traces.length;
  made.stale = false;
  made.plot.setAttribute("aria-label", spoken(made.panel, curves));
  fillTable(made);
  if (!traces.length) return undefined;
  const options = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  return library().react(made.plot, traces, layoutOf(made.panel, traces, unit), options);
}

function fillTable(made) {
  made.table.querySelector(".wide")?.remove();
  if (!made.table.open) return;
  const head = ["curve", "first", "lowest", "highest", "last"];
  const rows = curvesOf(made.panel).slice(0, TABLE_ROWS).map((curve) => {
    const y = curve.y.filter((value) => value !== null);
    const numbers = [y[0], y.reduce((a, b) => Math.min(a, b), Infinity), y.reduce((a, b) => Math.max(a, b), -Infinity), lastOf(y)];
    const name = element("th", { scope: "row" }, curve.name + (curve.dash ? ", evaluated" : ""));
    return element("tr", {}, name, ...numbers.map((value) => element("td", {}, number(value))));
  });
  const table = element("table", { className: "numeric" },
    element("thead", {}, element("tr", {}, ...head.map((name) => element("th", { scope: "col" }, name)))),
    element("tbody", {}, ...rows));
  const box = element("div", { className: "wide", tabIndex: 0 }, table);
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", made.panel.label);
  made.table.append(box);
}

function redraw() {
  for (const made of figures.values()) {
    made.stale = true;
    made.figure.hidden = !made.panel.curves.some((curve) => visibleRun(curve.run));
    if (made.near) draw(made);
  }
}

/** Makes the figures of new panels, removes those of old ones, and keeps the rest in place. */
function arrange() {
  const wanted = new Set();
  for (const panel of data.panels) {
    const key = `${panel.section} ${panel.metric}`;
    const section = document.querySelector(`.figures[data-section="${panel.section}"]`);
    if (!section) continue;
    wanted.add(key);
    const made = figures.get(key);
    if (made && section.contains(made.figure)) made.panel = panel;
    else figures.set(key, makeFigure(panel, section));
  }
  for (const [key, made] of figures) {
    if (!wanted.has(key)) {
      watcher.unobserve(made.figure);
      made.figure.remove();
      figures.delete(key);
    }
  }
}
