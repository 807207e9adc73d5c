"""The page in a real browser: it draws, its controls work, and it asks nobody for anything.

`make browser` installs Chromium and its driver; imports of the driver stand in the fixtures, since
the fast tests do without.
"""

import shutil
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from report_runs import NAN, columns_of, facts_of, write_comparison, write_metrics, write_run

import retain
from retain.study.report import watching
from retain.study.report.watching import Watched, server

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
SECONDS = 2.0
RETURNS = '.figures[data-section="curves"] figure:first-child .plot'
EVIL = '<img src=x onerror="window.pwned=1"><script>window.pwned=1<'


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = write_comparison(
        tmp_path_factory.mktemp("browser") / "cmp",
        seeds=3,
        eval_return_mean=[NAN] * 39 + [150.0],
        explained_variance=np.linspace(-0.1, 0.9, 40),
    )
    return retain.report(folder, out=folder.parent / "page.html")


@contextmanager
def opened(browser, url, *, alone=True, **context):
    """A page; afterwards it must have said nothing to the console and fetched nothing."""
    said, asked = [], []
    context.setdefault("viewport", {"width": 1280, "height": 900})
    tab = browser.new_context(**context)
    page = tab.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    yield page
    assert said == []
    outside = [one for one in asked if one != url and not one.startswith(("data:", "blob:"))]
    assert not alone or outside == []
    tab.close()


@contextmanager
def served(folder):
    with server(Watched([folder]), 0) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_address[1]}/"
        finally:
            serving.shutdown()
            thread.join()


@pytest.fixture
def page(browser, comparison):
    with opened(browser, comparison.as_uri()) as found:
        found.locator(RETURNS).scroll_into_view_if_needed()
        found.wait_for_selector(f"{RETURNS} .main-svg")
        yield found


def traces(page, plot=RETURNS):
    """What a figure draws: name, x, y, width and colour of each curve with a name."""
    return page.evaluate(
        "(plot) => document.querySelector(plot).data.filter(t => t.name !== 'interval')"
        ".map(t => ({name: t.name, x: [...t.x], y: [...t.y], line: t.line}))", plot)  # fmt: skip


def names(page):
    return [trace["name"] for trace in traces(page)]


def test_every_figure_is_drawn_when_it_comes_near(page):
    page.locator("#more > summary").click()
    figures = page.locator("figure:not([hidden])")
    assert figures.count() == 9
    for number in range(figures.count()):
        figures.nth(number).scroll_into_view_if_needed()
        figures.nth(number).locator(".main-svg").first.wait_for()
    label = page.locator(RETURNS).get_attribute("aria-label")
    assert label.startswith("return, mean of the last 100 episodes: none, mean of 3 ends at 202")


def test_seeds_and_means_come_and_go(page):
    seeds = [f"{memory}/seed{n}" for memory in ("none", "lstm") for n in (1, 2, 3)]
    means = ["none, mean of 3", "lstm, mean of 3"]
    assert set(names(page)) == {*seeds, *means}
    page.get_by_label("every seed").uncheck()
    assert set(names(page)) == set(means)
    page.get_by_label("every seed").check()
    page.get_by_label("mean and 95 % interval").uncheck()
    assert set(names(page)) == set(seeds)


def test_a_group_and_a_run_can_be_hidden(page):
    button = page.locator("#legend button", has_text="lstm")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert not any("lstm" in name for name in names(page))
    button.focus()
    page.keyboard.press("Space")
    assert any("lstm" in name for name in names(page))
    page.get_by_label("show none/seed2").uncheck()
    page.locator(RETURNS).scroll_into_view_if_needed()
    assert "none/seed2" not in names(page)
    assert "none/seed1" in names(page)


def test_the_axis_is_steps_or_time_and_a_part_of_the_run(page):
    before = traces(page)[0]
    page.get_by_label("Axis").select_option("seconds")
    after = traces(page)[0]
    assert after["x"] == pytest.approx([x / 1000 for x in before["x"]])
    assert "seconds" in page.locator(f"{RETURNS} .xtitle").text_content()
    page.get_by_label("Axis").select_option("steps")
    page.get_by_label("Part").select_option("last quarter")
    assert min(traces(page)[0]["x"]) >= 3000


def test_smoothing_smooths(page):
    page.get_by_label("mean and 95 % interval").uncheck()
    plot = '.figures[data-section="monitors"] figure:first-child .plot'
    page.locator(plot).scroll_into_view_if_needed()
    page.wait_for_selector(f"{plot} .main-svg")
    rough = traces(page, plot)[0]["y"]
    page.get_by_label("Smoothing").select_option("strong")
    page.locator(plot).scroll_into_view_if_needed()
    smooth = traces(page, plot)[0]["y"]
    assert len(smooth) == len(rough)
    assert smooth[0] == rough[0]
    assert np.abs(np.diff(smooth)).mean() < 0.3 * np.abs(np.diff(rough)).mean()


def pointed_at(page):
    """The text beside the pointer, once it has found a curve of the first figure."""
    box = page.locator(f"{RETURNS} .nsewdrag").first.bounding_box()
    for at in np.linspace(box["y"] + 2, box["y"] + box["height"] - 2, 60):
        if page.locator(f"{RETURNS} .hovertext").count():
            break
        page.mouse.move(box["x"] + box["width"] * 0.6, at)
        page.wait_for_timeout(60)
    return page.locator(f"{RETURNS} .hoverlayer").text_content()


def test_a_pointer_shows_values_and_zooms(page):
    assert "steps" in pointed_at(page)
    box = page.locator(f"{RETURNS} .nsewdrag").first.bounding_box()
    x, y = box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5
    page.mouse.move(x, y)
    reach = "(plot) => document.querySelector(plot).layout.xaxis.range"
    before = page.evaluate(reach, RETURNS)
    page.mouse.down()
    page.mouse.move(x + 150, y + 10, steps=5)
    page.mouse.up()
    after = page.evaluate(reach, RETURNS)
    assert after[1] - after[0] < 0.5 * (before[1] - before[0])
    page.mouse.dblclick(x, y)
    page.wait_for_function(
        "(plot) => document.querySelector(plot).layout.xaxis.autorange", arg=RETURNS
    )


def test_the_healthy_range_is_drawn_behind_the_curve(page):
    plots = page.locator('.figures[data-section="monitors"] figure', has_text="explained_variance")
    plots.scroll_into_view_if_needed()
    plots.locator(".main-svg").first.wait_for()
    [shape] = plots.locator(".plot").evaluate("plot => plot.layout.shapes")
    assert (shape["type"], shape["y0"]) == ("rect", 0.5)
    assert "healthy: above 0.5" in plots.text_content()


def test_each_figure_has_a_table(page):
    page.locator('.figures[data-section="curves"] summary').first.click()
    rows = page.locator('.figures[data-section="curves"] figure').first.locator("tbody tr")
    rows.first.wait_for()
    cells = [row.inner_text().split("\t") for row in rows.all()]
    assert ["lstm/seed3", "64.54", "64.54", "203", "203"] in cells


def test_light_dark_and_what_the_system_wants(page, browser, comparison):
    back = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(back) == "rgb(255, 255, 255)"
    light = traces(page)[-1]["line"]["color"]
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate(back) == "rgb(20, 23, 27)"
    redrawn = "([plot, colour]) => document.querySelector(plot).data.at(-1).line.color {} colour"
    page.locator(RETURNS).scroll_into_view_if_needed()
    page.wait_for_function(redrawn.format("!=="), arg=[RETURNS, light])
    page.get_by_role("button", name="Light colours").click()
    page.locator(RETURNS).scroll_into_view_if_needed()
    page.wait_for_function(redrawn.format("==="), arg=[RETURNS, light])
    with opened(browser, comparison.as_uri(), color_scheme="dark") as other:
        assert other.evaluate(back) == "rgb(20, 23, 27)"


CONTRAST = """() => {
  const luminance = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const back = luminance(getComputedStyle(document.body).backgroundColor);
  const against = (one) => {
    const text = luminance(getComputedStyle(one).color);
    return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
  };
  return ['p', 'th', 'td', 'summary', 'small', 'footer p', 'dt']
    .map((name) => document.querySelector(name)).filter(Boolean).map(against);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out(browser, comparison, scheme):
    with opened(browser, comparison.as_uri(), color_scheme=scheme) as page:
        assert min(page.evaluate(CONTRAST)) >= 4.5  # WCAG 2.2, level AA


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_screen(browser, comparison, width):
    with opened(browser, comparison.as_uri(), viewport={"width": width, "height": 800}) as page:
        for at in range(0, page.evaluate("document.documentElement.scrollHeight"), 700):
            page.evaluate(f"window.scrollTo({{top: {at}, behavior: 'instant'}})")
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_it_is_worked_with_the_keyboard(page):
    page.evaluate("window.scrollTo({top: 0, behavior: 'instant'})")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "theme"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_one_environment_is_shown_at_a_time(browser, comparison, tmp_path):
    shutil.copytree(comparison.parent / "cmp", tmp_path / "all" / "cmp")
    write_run(tmp_path / "all" / "other", facts=facts_of(env="CartPole-v1"))
    path = retain.report(tmp_path / "all", out=tmp_path / "page.html")
    with opened(browser, path.as_uri()) as page:
        rows = page.locator("#run tr:visible input")
        assert rows.count() == 6
        assert page.locator("#result").is_visible()
        page.locator("#task").select_option("CartPole-v1")
        assert rows.count() == 1
        assert not page.locator("#result").is_visible()
        assert not page.locator("#memory").is_visible()
        page.locator(RETURNS).scroll_into_view_if_needed()
        page.wait_for_selector(f"{RETURNS} .main-svg")
        assert names(page) == ["other"]


def test_it_prints_without_controls_and_with_every_figure(page, tmp_path):
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#controls").is_visible()
    page.emulate_media(media="screen", color_scheme="dark")
    page.pdf(path=tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 20_000
    drawn = page.locator('.figures[data-section="episodes"] .main-svg').count()
    assert drawn > 0


def test_a_strangers_names_run_nothing(browser, tmp_path):
    for name in ("a", "b"):
        write_run(tmp_path / "all" / f"{EVIL}{name}")
    (tmp_path / "all" / "report.md").write_text(f"# {EVIL}\n\n<script>window.pwned=1</script>\n")
    path = retain.report(tmp_path / "all", out=tmp_path / "page.html")
    with opened(browser, path.as_uri()) as page:
        page.locator(RETURNS).scroll_into_view_if_needed()
        page.get_by_label("mean and 95 % interval").uncheck()  # means have the group's name
        assert EVIL in pointed_at(page)
        page.locator("summary").first.click()
        page.wait_for_timeout(300)
        assert page.evaluate("window.pwned") is None
        assert EVIL[:4] in page.locator("#run").text_content()


def test_its_policy_stops_a_script_that_slipped_in(browser, comparison, tmp_path):
    html = comparison.read_text().replace("</main>", "<script>window.pwned=1</script></main>")
    (tmp_path / "slipped.html").write_text(html)
    page = browser.new_page()
    page.goto((tmp_path / "slipped.html").as_uri())
    assert page.evaluate("window.pwned") is None
    page.close()


def test_a_hundred_runs_of_a_thousand_rows_load_in_two_seconds(browser, tmp_path):
    many = {f"metric_{n}": np.random.default_rng(n).normal(size=1000) for n in range(15)}
    for memory in ("none", "lstm"):
        for seed in range(1, 51):
            write_run(
                tmp_path / "many" / memory / f"seed{seed}",
                memory=memory,
                seed=seed,
                rows=1000,
                **many,
            )
    path = retain.report(tmp_path / "many", out=tmp_path / "page.html")
    loads, works = [], []
    for _ in range(3):
        page = browser.new_page()
        meter = page.context.new_cdp_session(page)
        meter.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(path.as_uri())
        timing = "performance.getEntriesByType('navigation')[0].loadEventEnd"
        loads.append(page.evaluate(timing) / 1000)
        page.locator(RETURNS).scroll_into_view_if_needed()
        page.wait_for_selector(f"{RETURNS} .main-svg")
        found = {
            one["name"]: one["value"] for one in meter.send("Performance.getMetrics")["metrics"]
        }
        works.append(found["TaskDuration"])
        page.close()
    print(f"loaded in {min(loads):.2f} s; {min(works):.2f} s of work until the curves are drawn")
    assert min(loads) < SECONDS
    assert min(works) < SECONDS


def test_a_served_page_follows_the_run_and_keeps_its_state(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "EVERY", 0.0)
    folder = write_comparison(tmp_path / "cmp", seeds=2, rows=10)
    with served(folder) as url, opened(browser, url, alone=False) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.locator("#run details summary").click()
        page.locator("#legend button", has_text="none").click()
        page.locator(RETURNS).scroll_into_view_if_needed()
        page.wait_for_selector(f"{RETURNS} .main-svg")
        place = page.evaluate("window.scrollY")
        page.evaluate("window.mark = document.querySelector('.plot')")
        for seed in (1, 2):
            write_metrics(folder / "lstm" / f"seed{seed}", columns_of(25, seed))
        page.wait_for_function(
            "(plot) => Math.max(...document.querySelector(plot).data.at(-1).x) === 2500", arg=RETURNS)  # fmt: skip
        assert page.evaluate("window.mark === document.querySelector('.plot')")  # not made anew
        assert abs(page.evaluate("window.scrollY") - place) < 2
        assert page.locator("#run details").evaluate("one => one.open")
        assert not any(name.startswith("none") for name in names(page))
        assert "2500 of 10,000" in page.locator("#run").text_content()
        assert {one.split("?")[0] for one in asked} == {url + "update.json"}
