"""The page: self-contained, everything from data escaped, and in a real browser every number opens its runs."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import browser
import pytest
import stores

from ablative.reports.build import report
from ablative.reports.html import page
from ablative.reports.html.behind import files, words
from ablative.reports.html.page_data import embed
from ablative.reports.html.state_grid import SYMBOLS
from ablative.reports.store.coverage import REPORT_STATES
from ablative.reports.tables import html_table
from ablative.reports.tables.html_templates import environment
from ablative.reports.watch import watch
from ablative.study.home.paths import Home
from ablative.study.plan.plan import Plan
from ablative.study.spec.design import cell_name
from ablative.study.spec.parents import parents

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def written(partial: Plan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    report(partial, folder, ["html"])
    return folder / "index.html"


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Page]:
    with browser.page() as tab:
        yield tab


def test_compiled_templates_are_kept_and_a_damaged_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def table() -> float:
        environment.cache_clear()
        environment().get_template("table.html")
        return sum(path.stat().st_mtime_ns for path in (tmp_path / "ablate" / "templates").glob("*"))

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = table()
    assert first and table() == first
    [kept] = (tmp_path / "ablate" / "templates").iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", b"text", whole[:30], whole[:-30]):
        kept.write_bytes(damaged)
        table()
        assert kept.read_bytes() == whole
    for place in ("/proc/none", str(kept)):
        monkeypatch.setenv("XDG_CACHE_HOME", place)
        table()
    environment.cache_clear()


def test_every_state_has_a_sign() -> None:
    assert set(SYMBOLS) == set(REPORT_STATES) and len(set(SYMBOLS.values())) == len(REPORT_STATES)


def test_embedded_json_cannot_leave_its_element() -> None:
    text = embed({HOSTILE: "<!-- & \u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {HOSTILE: "<!-- & \u2028"}


def test_the_page_refers_to_nothing_outside(written: Path) -> None:
    html = written.read_text()
    references = re.findall(r"""(?:src|href|action|data)\s*=\s*["']([^"'#]+)""", html)
    assert [link for link in references if not link.startswith("data:")] == []
    assert "@import" not in html and 'http-equiv="Content-Security-Policy" content="default-src \'none\'' in html
    assert re.findall(r"url\((?!#)[^)]*\)", html) == []


def test_ids_are_unique(written: Path) -> None:
    ids = re.findall(r'<[^>]*?\sid="([^"]+)"', written.read_text())
    assert len(ids) > 50 and [name for name, count in Counter(ids).items() if count > 1] == []


def test_a_level_named_script_is_text(tmp_path: Path, tab: browser.Page) -> None:
    text = stores.STUDY.replace("mae_clip", HOSTILE).replace(f'"{HOSTILE}"', f"'{HOSTILE}'")
    text = text.replace(f"[clip, {HOSTILE}]", f"[clip, '{HOSTILE}']").replace(
        f"objective: {HOSTILE}", "objective: mae_clip"
    )
    plan = stores.plan_of(tmp_path, text, ("seeds=[0]",))
    report(plan, tmp_path / "out", ["html"])
    html = (tmp_path / "out/index.html").read_text()
    assert HOSTILE not in html and "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    tab.go((tmp_path / "out/index.html").as_uri() + "#why=main/3/1")
    assert tab.value("document.querySelectorAll('script').length") == 2
    assert tab.value("document.querySelector('#why-title').textContent").startswith(f"{HOSTILE}, map")
    tab.press("Escape")
    tab.click("#filter summary")
    tab.click(f'#filter input[value="{HOSTILE}"]')
    assert f"without method {HOSTILE}" in tab.value("document.querySelector('#filter-state').textContent")
    assert HOSTILE not in "".join(names(tab, ".grid"))


@pytest.mark.parametrize(("decided", "shown", "folded"), [(0, 13, 0), (2, 2, 11), (13, 13, 0)])
def test_of_many_claims_the_decided_ones_are_shown(
    decided: int, shown: int, folded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [page.Verdict(f"{i}", "undecided" if i >= decided else "supported", "?", "", "") for i in range(13)]
    monkeypatch.setattr(page, "_verdict", lambda judged: found[judged])
    verdicts, rest = page._verdicts(range(13))  # type: ignore[arg-type]
    assert [verdict.text for verdict in (*verdicts, *rest)] == [verdict.text for verdict in found]
    assert (len(verdicts), len(rest)) == (shown, folded)
    assert not page._verdicts(range(12))[1]  # type: ignore[arg-type]


def test_nothing_trained_yet_is_said(tmp_path: Path) -> None:
    plan = stores.plan_of(tmp_path)
    report(plan, tmp_path / "out", ["html"])
    html = (tmp_path / "out/index.html").read_text()
    assert "Nothing is trained yet" in html and html.count("No results to draw yet.") == 5
    assert "0 of 78 tasks finished" in html and "<b>" not in html.split("</header>")[0]


def names(tab: browser.Page, table: str) -> list[str]:
    """Levels of each row of a table that is shown, from top to bottom."""
    rows = f"Array.from(document.querySelectorAll('{table} tbody tr')).filter(row => !row.hidden)"
    return list(
        tab.value(f"{rows}.map(row => Array.from(row.querySelectorAll('th')).map(h => h.textContent).join(' '))")
    )


def number(table: str, row: int, column: int) -> str:
    """Selector of a number, rows and columns from 1 on, as the table is sorted now; differences are no columns."""
    return f"#table-{table} tbody tr:nth-child({row}) td:nth-child({column} of td:not(.compared))"


def test_sections_are_in_the_order_of_interest(written: Path) -> None:
    assert re.findall(r'<section id="(\w+)"', written.read_text()) == [
        "verdicts", "tables", "figures", "findings", "progress", "cost", "environment", "statistics",
    ]  # fmt: skip


def test_a_telephone_scrolls_tables_and_not_the_page(written: Path, tab: browser.Page) -> None:
    """A mark has its place beside the line: it would leave a table that does not hold it."""
    tab.go(written.as_uri())
    tab.send("Emulation.setDeviceMetricsOverride", width=420, height=800, deviceScaleFactor=1, mobile=False)
    tab.value("""document.querySelectorAll('.results tbody tr td:last-child').forEach(
        cell => { cell.style.paddingLeft = '500px'; cell.insertAdjacentHTML('beforeend', '<sup>†</sup>'); })""")
    widths = "Math.max(...[...document.querySelectorAll('.scroll')].map(each => each.scrollWidth))"
    table, page = tab.value(f"[{widths}, document.documentElement.scrollWidth]")
    tab.send("Emulation.clearDeviceMetricsOverride")
    assert table > 600 and page <= 420


def test_what_came_to_nothing_and_what_to_tell_a_checklist(written: Path, tab: browser.Page) -> None:
    tab.go(written.as_uri())
    cost = tab.value("document.querySelector('#cost').innerText")
    # the failed run lasted 100 s; 12 W of every CPU-hour
    assert "Wasted: 1 failed task, at most 0.028 hours from start to end." in cost
    hours, energy = (tab.value(f"document.querySelector('#cost .sum').cells[{i}].textContent") for i in (3, 5))
    assert float(energy) == pytest.approx(float(hours) * 12 / 1000, rel=0.02)
    assert f"All experiments took {hours} CPU-hours and 0 GPU-hours" in cost and f"energy is {energy} kWh" in cost


def test_a_click_on_a_head_sorts_and_missing_numbers_stay_last(written: Path, tab: browser.Page) -> None:
    tab.go(written.as_uri())
    before = names(tab, "#table-main")
    assert before == ["clip map", "clip gap", "mae_clip map", "mae_clip gap", "mae –"]
    head = "#table-main thead tr:last-child th:nth-child({})"
    tab.click(head.format(1) + " .sort")  # small, shape: 10 + 10 for mae_clip + 3 for gap
    assert names(tab, "#table-main") == ["mae_clip gap", "mae_clip map", "clip gap", "clip map", "mae –"]
    tab.press("Enter", "\r")
    assert names(tab, "#table-main") == before
    assert tab.value(f"document.querySelector('{head.format(1)}').getAttribute('aria-sort')") == "ascending"
    tab.click(head.format(7) + " .sort")  # large, shape: of the others there is nothing, and they stay as they stood
    assert names(tab, "#table-main") == ["mae_clip map", "clip map", "clip gap", "mae_clip gap", "mae –"]
    tab.click(number("main", 1, 4))
    assert "mae_clip, map: large" in tab.value("document.querySelector('#why-title').textContent")
    tab.press("Escape")
    for _ in range(2):
        tab.click(head.format(7) + " .sort")
    assert names(tab, "#table-main") == before and not tab.value("document.querySelectorAll('[aria-sort]').length")


def test_rows_of_a_long_table_are_there_when_they_are_wanted(
    partial: Plan, tmp_path: Path, tab: browser.Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html_table, "LONG", 2)
    report(partial, tmp_path, ["html"])
    address = (tmp_path / "index.html").as_uri()
    whole = ["clip map", "clip gap", "mae_clip map", "mae_clip gap", "mae –"]
    assert "mae_clip" in (tmp_path / "tables/main.html").read_text().split("</table>")[0]
    tab.go(address)
    assert names(tab, "#table-main") == whole[:2]
    assert tab.value("document.querySelector('.whole-button').textContent") == "Show all 5 rows"
    tab.click("#table-main thead tr:last-child th:nth-child(1) .sort")
    assert names(tab, "#table-main") == ["mae_clip gap", "mae_clip map", "clip gap", "clip map", "mae –"]
    tab.click(number("main", 1, 1))
    assert tab.value("document.querySelector('#why-title').textContent").startswith("mae_clip, gap: small")
    for wanted in ("#why=main/5/5", "#filter", "print"):
        tab.go(address + (wanted if "why" in wanted else ""))
        if wanted == "#filter":
            tab.value("boxes[0].checked = false, filter(), boxes[0].checked = true, filter()")
        if wanted == "print":
            tab.send("Page.printToPDF")
        assert names(tab, "#table-main") == whole, wanted
    assert tab.complaints == []


def test_levels_that_are_switched_off_go(written: Path, tab: browser.Page) -> None:
    tab.go(written.as_uri())
    tab.click("#filter summary")
    tab.click('#filter input[value="gap"]')
    assert names(tab, "#table-main") == ["clip map", "mae_clip map", "mae –"]
    tab.click('#filter input[value="large"]')
    heads = "Array.from(document.querySelectorAll('#table-main thead th')).filter(h => !h.hidden)"
    assert tab.value(f"{heads}.map(h => h.textContent + h.colSpan)") == [
        "method1", "pooling1", "scale: small6", "Zero-shot2", "Probes2", "2",
        "shape1", "Δ1", "mean1", "Δ1", "CPU-hours1", "Δ1",
    ]  # fmt: skip
    assert names(tab, "#table-main") == ["clip map", "mae_clip map"]
    assert names(tab, ".grid") == ["small clip map", "small mae_clip map"]
    state = tab.value("document.querySelector('#filter-state').textContent")
    assert state.startswith("2 of 9 cells are shown, without scale large, pooling gap.")
    tab.click("#filter-all")
    assert len(names(tab, "#table-main")) == 5 and len(names(tab, ".grid")) == 9
    assert tab.value(f"{heads}.length") == 19 and tab.value("document.querySelector('#filter-state').textContent") == ""


def test_print_shows_whole_tables_and_no_controls(written: Path, tab: browser.Page) -> None:
    tab.send("Emulation.setDeviceMetricsOverride", width=720, height=1000, deviceScaleFactor=1, mobile=False)
    tab.send("Emulation.setEmulatedMedia", media="print")
    tab.go(written.as_uri())
    widths = tab.value("Array.from(document.querySelectorAll('main table')).map(t => t.getBoundingClientRect().right)")
    shown = tab.value("Array.from(document.querySelectorAll('.bar, .filter, #why')).some(e => e.offsetHeight > 0)")
    tab.send("Emulation.setEmulatedMedia", media="")
    tab.send("Emulation.clearDeviceMetricsOverride")
    assert max(widths) <= 720 and not shown


def test_summary_counts_and_cost(written: Path, partial: Plan, tab: browser.Page) -> None:
    tab.go(written.as_uri())
    terms = tab.value("Array.from(document.querySelectorAll('.facts div')).map(d => d.textContent)")
    facts = {re.sub(r"[^a-zA-Z -]", "", fact).strip(): float(re.findall(r"[\d.]+$", fact)[0]) for fact in terms}
    assert (facts["Cells"], facts["Runs"], facts["Seeds"]) == (9, 27, 3)
    assert (facts["failed"], facts["running"], facts["diverged"]) == (1, 3, 1)
    # 17 finished pretrainings at 0.25 h, 32 evaluations at 0.01 h; unfinished ones had reported 2 of 4 metrics
    assert facts["CPU-hours"] == pytest.approx(21 * 0.25 + 30 * 0.01, abs=0.02)
    assert "newest on" in tab.value("document.querySelector('.lead').textContent")


def test_a_click_opens_the_runs_behind_a_number(written: Path, partial: Plan, tab: browser.Page) -> None:
    tab.go(written.as_uri())
    assert tab.value("document.querySelector('#why').hidden") is True
    tab.click(number("main", 3, 4))
    assert tab.value("document.querySelector('#why').hidden") is False
    assert tab.value("document.querySelector('#why-title').textContent") == "mae_clip, map: large / Zero-shot / shape"
    text = tab.value("document.querySelector('#why-body').textContent")
    entry = stores.one_table(partial, "main").rows[2].entries[3]
    assert len(entry.sources) == 2
    for source in entry.sources:
        assert source.run_id in text and f"{source.value:.3f}" in text
    assert "2 of 3" in text and "from results" in text and "its run failed, out of memory" in text
    assert stores.COMMIT[:10] in text
    [key] = [key for key in json.loads((written.parent / "numbers.json").read_text())["numbers"] if key in text]
    assert key.split(".")[1:4] == ["main", "mae_clip", "map"] and f"\\ablate{{{key}}}" in text
    assert tab.value("location.hash") == "#why=main%2F3%2F4"
    counted = "['.dot', '.curve', '.run', '.copy button'].map(s => document.querySelectorAll('#why ' + s).length)"
    assert tab.value(counted)[:3] == [2, 2, 2] and tab.value(counted)[3] >= 4
    levels = "'factors.scale=[large]' 'factors.method=[mae_clip]' 'factors.pooling=[map]'"
    assert f"ablate --home again run {partial.asked} {levels}" in text and "'seeds=[0,1]'" in text
    assert "objective.name" in text and "data.pairs" in text  # what differs from the baseline
    tab.send("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    tab.click("#why-body > .copy button")
    wait = "new Promise(done => { const look = () => document.querySelector('#copied').hidden && setTimeout(look, 20)"
    wait += " || navigator.clipboard.readText().then(done); look(); })"
    found = tab.send("Runtime.evaluate", expression=wait, awaitPromise=True, returnByValue=True)
    assert found["result"]["value"].startswith(f"ablate --home again run {partial.asked}")


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        # `applies`, `drop` and `protocols` name levels that a cell does not have, and labels what only a table has.
        (stores.STUDY + "labels: {columns: {shape: Shape}, method: {mae: MAE, clip: CLIP}}", {"method": "mae"}),
        (stores.STUDY.replace("linear_probe]", "linear_probe: {method: mae}, retrieval: {method: clip, pooling: gap}}")
         .replace("protocols: [zero_shot,", "protocols: {zero_shot: {},"), {"method": "clip", "pooling": "map"}),
        (stores.STUDY.replace("gap}}\napplies", "gap, from: {pooling: map}}}\napplies"), {"pooling": "gap"}),
        (stores.STUDY + "design: one_at_a_time", {"method": "clip", "scale": "large"}),
    ],
)  # fmt: skip
def test_the_words_that_run_a_number_again_plan_its_tasks(tmp_path: Path, text: str, cell: dict[str, str]) -> None:
    text = re.sub(r"^effects:.*?(?=^figures)", "", text, flags=re.DOTALL | re.MULTILINE)
    plan = stores.plan_of(tmp_path, text)
    own = next(each for each in plan.cells if cell.items() <= each.items())
    starts = parents(plan.study.design, plan.cells, plan.study.where)
    again = stores.plan_of(tmp_path, text, tuple(shlex.split(words(plan, own, starts))))
    wanted = {task.task_id for task in plan.tasks if own in task.cells}
    behind = {task.task_id for task in plan.tasks if starts.get(cell_name(own)) in task.cells}
    assert {task.task_id for task in again.tasks} == wanted | behind


def test_the_keyboard_does_what_the_mouse_does(written: Path, tab: browser.Page) -> None:
    tab.go(written.as_uri())
    tab.value("document.querySelector('#table-main td[tabindex]').focus()")
    assert "seed 0: 11.2" in tab.value("document.querySelector('#tip').textContent")
    tab.press("Enter", "\r")
    assert tab.value("document.querySelector('#why').hidden") is False
    assert tab.value("document.activeElement.id") == "why"
    tab.press("Escape")
    assert tab.value("document.querySelector('#why').hidden") is True
    assert tab.value("document.activeElement.matches('#table-main tr:first-child td:nth-child(1 of td)')")
    assert tab.value("location.hash") == ""
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        tab.press(key)
    tab.press("Enter", "\r")
    assert tab.value("document.querySelector('#why-title').textContent") == "clip, gap: small / Probes / mean"


@pytest.mark.parametrize(
    ("made", "outputs", "opening"),
    [
        ("log.txt", "", {}),
        ("output/ckpt.json", "output", {}),
        ("checkpoints/model.pt", "", {"checkpoint": "checkpoints/model.pt"}),
    ],
)
def test_only_files_that_a_trainer_writes_are_named(
    tmp_path: Path, made: str, outputs: str, opening: dict[str, str]
) -> None:
    """A command has outputs and no checkpoint of ours, the shipped trainer has the reverse."""
    path = Home(tmp_path).run("b").root / made
    path.parent.mkdir(parents=True)
    path.touch()
    found = files(Home(tmp_path), ["a", "b"])
    assert (found["files"].get("outputs", ""), found["opening"]) == (outputs, opening)


def test_hovering_shows_the_seeds(written: Path, tab: browser.Page) -> None:
    tab.go(written.as_uri())
    tab.hover(number("main", 2, 1))
    assert tab.value("document.querySelector('#tip').hidden") is False
    assert tab.value("document.querySelector('#tip').textContent").split("\n")[2] == "seed 2: 16.2"


def test_the_address_opens_the_panel(written: Path, tab: browser.Page) -> None:
    tab.go(written.as_uri() + "#why=main/5/5")
    assert tab.value("document.querySelector('#why-title').textContent") == "mae: large / Probes / mean"
    tab.go(written.as_uri() + "#why=nothing/9/9")
    assert tab.value("document.querySelector('#why').hidden") is True


def test_the_browser_loads_only_the_file_and_complains_of_nothing(written: Path, tab: browser.Page) -> None:
    tab.requests.clear()
    tab.complaints.clear()
    tab.go(written.as_uri())
    tab.click(number("main", 1, 1))
    assert [url for url in tab.requests if not url.startswith("data:")] == [written.as_uri()]
    assert tab.complaints == []


def test_tables_and_grid_are_named_for_a_reader(written: Path, tab: browser.Page) -> None:
    tab.go(written.as_uri())
    assert tab.value("Array.from(document.querySelectorAll('main table')).every(t => t.caption)") is True
    named = "s => document.getElementById(s.getAttribute('aria-labelledby')) !== null"
    assert tab.value(f"Array.from(document.querySelectorAll('figure svg')).every({named})") is True
    labels = tab.value("Array.from(document.querySelectorAll('.grid .state')).map(s => s.title.split(' (')[0])")
    assert len(labels) == 78 and "seed 2: failed: out of memory" in labels


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_in_both_schemes(written: Path, tab: browser.Page, scheme: str) -> None:
    tab.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.go(written.as_uri())
    colors = tab.value(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,"
        " getComputedStyle(document.querySelector('.notes p')).color,"
        " getComputedStyle(document.querySelector('figure svg [style*=\"fill: currentColor\"]')).fill]"
    )
    paper, *inks = [_luminance(color) for color in colors]
    for ink in inks:
        assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) >= 4.5, colors


def _luminance(color: str) -> float:
    """Relative luminance of `rgb(r, g, b)`, WCAG 2.1."""
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_watched_page_renews_itself_in_place_and_ends(
    partial: Plan, tmp_path: Path, tab: browser.Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[dict[str, int]] = []
    # It is made three times, and nothing below looks at a picture.
    bare = replace(partial, study=replace(partial.study, figures={}, effects={}))

    def plan() -> Plan:
        if len(rounds) == 2:
            raise KeyboardInterrupt
        rounds.append({})
        return bare

    monkeypatch.setattr("time.sleep", lambda _: None)
    watch(plan, lambda _: 0, tmp_path, seconds=1)
    assert len(rounds) == 2 and 'data-refresh="' in (tmp_path / "index.html").read_text()
    page = tmp_path / "index.html"
    watched = page.read_text()
    page.write_text(re.sub('data-refresh="[0-9]+"', 'data-refresh="1"', watched))
    tab.go(page.as_uri())
    page.write_text(re.sub('data-refresh="[0-9]+"', 'data-refresh="3600"', watched))
    tab.wait("Page.loadEventFired")  # by itself
    tab.click("#filter summary")
    tab.click('#filter input[value="gap"]')
    tab.press("Escape")
    tab.click(number("main", 1, 1))
    before = tab.value("[scrollY, document.querySelector('#why-title').textContent]")
    report(bare, tmp_path, ["html"])  # the last page, which does not renew itself
    tab.value("keep(); location.reload()")
    tab.wait("Page.loadEventFired")
    assert tab.value("document.body.dataset.refresh ?? 'none'") == "none"
    assert tab.value("[scrollY, document.querySelector('#why-title').textContent]") == before
    assert names(tab, "#table-main") == ["clip map", "mae_clip map", "mae –"]
