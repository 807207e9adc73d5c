// The page's controls, printing, and in a served page the news from its server; after figures.js.

// --- controls ------------------------------------------------------------------------------------

function legend() {
  const box = byId("legend");
  if (!box) return;
  const focused = box.contains(document.activeElement) ? document.activeElement.textContent : null;
  const here = data.groups.map((group, at) => [group, at]).filter(([group]) => group.task === shown.task);
  box.replaceChildren(...(here.length < 2 ? [] : here).map(([group, at]) => {
    const swatch = element("i", {});
    swatch.style.background = colourOf(at);
    const button = element("button", { type: "button" }, swatch, group.name);
    button.setAttribute("aria-pressed", String(!hiddenGroups.has(group.name)));
    button.addEventListener("click", () => {
      if (!hiddenGroups.delete(group.name)) hiddenGroups.add(group.name);
      button.setAttribute("aria-pressed", String(!hiddenGroups.has(group.name)));
      redraw();
    });
    return button;
  }));
  if (focused) [...box.children].find((one) => one.textContent === focused)?.focus();
}

/** Shows the rows of the chosen environment, and sets the controls to what is shown. */
function rows() {
  const several = byId("task") !== null;
  for (const row of document.querySelectorAll("[data-task]")) {
    row.hidden = several && row.dataset.task !== shown.task;
  }
  for (const box of document.querySelectorAll(".box")) {
    const inside = [...box.querySelectorAll("tbody tr")];
    box.hidden = inside.length > 0 && inside.every((row) => row.hidden);
  }
  for (const section of byId("main").querySelectorAll("section")) {
    const inside = [...section.querySelectorAll(".box, article, [data-task]")];
    const more = section.querySelector(".figures, details, .videos");
    section.hidden = !more && inside.length > 0 && inside.every((one) => one.closest(":not(section)[hidden]"));
  }
  for (const box of document.querySelectorAll("input[data-run]")) {
    box.checked = !hiddenRuns.has(data.runs[box.dataset.run]?.name);
  }
  const means = data.panels.some((panel) => panel.means.length);
  for (const id of ["seeds", "means"]) {
    if (byId(id)) byId(id).closest("label").hidden = !means;
  }
  for (const id of ["axis", "smoothing", "part", "task"]) if (byId(id)) byId(id).value = shown[id];
  for (const id of ["seeds", "means"]) if (byId(id)) byId(id).checked = shown[id];
}

function themeButton() {
  const dark = isDark();
  byId("theme").textContent = dark ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", dark ? "Light colours" : "Dark colours");
}

function recolour() {
  themeButton();
  legend();
  redraw();
}

function remember(name, value) {
  try { localStorage.setItem(name, value); } catch { /* a page from a file may have no storage */ }
}

function recall(name) {
  try { return localStorage.getItem(name); } catch { return null; }
}

document.addEventListener("change", ({ target }) => {
  if (target.dataset.run !== undefined) {
    const name = data.runs[target.dataset.run].name;
    if (target.checked) hiddenRuns.delete(name); else hiddenRuns.add(name);
  } else if (target.id in shown) {
    const value = target.type === "checkbox" ? target.checked : target.value;
    shown[target.id] = ["smoothing", "part"].includes(target.id) ? Number(value) : value;
    if (target.id === "task") { rows(); legend(); }
  } else {
    return;
  }
  redraw();
});
document.addEventListener("submit", (event) => event.preventDefault());
byId("theme").addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  remember("retain-theme", root.dataset.theme);
  recolour();
});
wantsDark.addEventListener("change", recolour);

addEventListener("beforeprint", () => {
  printing = true;
  for (const made of figures.values()) {
    if (made.figure.closest("details:not([open])")) continue;
    draw(made);
    if (!made.figure.hidden) library().relayout(made.plot, { width: 640, height: 260 });
  }
});
addEventListener("afterprint", () => {
  printing = false;
  for (const made of figures.values()) {
    if (made.plot.layout) library().relayout(made.plot, { width: null, height: null, autosize: true });
  }
  redraw();
});

// --- a served page -------------------------------------------------------------------------------

let version = null;
const parts = new Map(); // the sections as the server last sent them

/** Replaces the sections that changed; figures, open details and scroll positions stay. */
function replaceSections(html) {
  const fresh = new DOMParser().parseFromString(html, "text/html").body;
  const main = byId("main");
  const ids = new Set([...fresh.children].map((one) => one.id));
  let before = null;
  for (const section of [...fresh.children]) {
    const old = byId(section.id);
    const same = old && parts.get(section.id) === section.outerHTML;
    parts.set(section.id, section.outerHTML);
    if (!old) {
      main.insertBefore(section, before ? before.nextSibling : main.firstChild);
    } else if (!same) {
      keepState(old, section);
      old.replaceWith(section);
    }
    before = byId(section.id);
  }
  for (const section of [...main.children]) if (!ids.has(section.id)) section.remove();
}

function keepState(old, section) {
  for (const box of section.querySelectorAll(".figures")) {
    const drawn = old.querySelector(`.figures[data-section="${box.dataset.section}"]`);
    if (drawn) box.replaceWith(drawn);
  }
  const details = (node) => [...node.querySelectorAll("details")].filter((one) => !one.closest(".figures"));
  const opened = details(old).map((one) => one.open);
  details(section).forEach((one, at) => { one.open = opened[at] ?? false; });
  const boxes = (node) => [...node.querySelectorAll(".wide")].filter((one) => !one.closest(".figures"));
  const places = boxes(old).map((one) => [one.scrollLeft, one.scrollTop]);
  requestAnimationFrame(() => boxes(section).forEach((one, at) => {
    if (places[at]) [one.scrollLeft, one.scrollTop] = places[at];
  }));
}

async function refresh() {
  try {
    const answer = await fetch(`update.json?version=${version ?? ""}`, { cache: "no-store" });
    if (answer.status === 200) {
      const news = await answer.json();
      version = news.version;
      data = news.data;
      replaceSections(news.main);
      start();
    }
    byId("status").textContent = "Refreshes while runs train.";
  } catch {
    byId("status").textContent = "The server has stopped; this is the last state it sent.";
  }
  setTimeout(refresh, 2000);
}

function start() {
  if (!data.groups.some((group) => group.task === shown.task)) shown.task = data.groups[0]?.task ?? "";
  arrange();
  rows();
  legend();
  redraw();
}

if (["light", "dark"].includes(recall("retain-theme"))) root.dataset.theme = recall("retain-theme");
themeButton();
start();
(window.requestIdleCallback ?? setTimeout)(library);
if ("live" in document.body.dataset) {
  for (const section of byId("main").children) parts.set(section.id, section.outerHTML);
  setTimeout(refresh, 2000);
}
