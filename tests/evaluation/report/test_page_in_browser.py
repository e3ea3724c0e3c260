"""The page in headless Chromium, opened from disk: it reads, sorts, filters, searches, exports, and nothing in it runs.

Left out: assertions on time (the number of rows in the document bounds the work instead; times are printed with -s).
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

from evaluation.report.data import ReportData, Sample
from evaluation.report.page import render
from tests.evaluation.report.example_report import BREAKOUT, HOSTILE, RIGHT_TO_LEFT, example_report
from trlx.utils.spreadsheet import neutralise, restore

SWITCHES = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    " --disable-component-update --disable-sync --force-prefers-reduced-motion --window-size=1400,1000"
)
# Runs before the page: what the policy forbids, and dialogs, are written down.
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
window.alert = (text) => violations.push("alert " + text);
"""
PAGE_ROWS = 50


class Page:
    """What a person does with the page, and sees."""

    def __init__(self, driver: webdriver.Chrome, downloads: Path):
        self.driver = driver
        self.downloads = downloads

    def open(self, path: Path) -> None:
        self.driver.get(path.as_uri())
        WebDriverWait(self.driver, 30).until(lambda _: self.js("return document.documentElement.dataset.inspector"))

    def js(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def one(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def texts(self, css: str) -> list[str]:
        return self.js("return [...document.querySelectorAll(arguments[0])].map((one) => one.textContent)", css)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def choose(self, name: str, text: str) -> None:
        Select(self.one(f"#{name}")).select_by_visible_text(text)

    def show(self, name: str) -> None:
        self.one(f"#filters input[value={name}] + span").click()

    def search(self, text: str) -> None:
        """Types, and waits until the list has been made anew."""
        before = self.refreshes()
        self.js("document.getElementById('search').select()")
        self.one("#search").send_keys(text or Keys.BACKSPACE)
        self.until(lambda: self.refreshes() > before)

    def refreshes(self) -> int:
        return self.js("return performance.getEntriesByName('inspector-refresh').length")

    def until(self, happened: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, 10).until(lambda _: happened())

    @property
    def reading(self) -> str:
        return self.one(".sample-id").text

    @property
    def listed(self) -> list[str]:
        """Ids of the rows in the document."""
        return [text.rpartition(" ")[2] for text in self.texts(".row-id")]

    def every_listed(self) -> list[str]:
        """Ids of all pages of the list."""
        ids = self.listed
        while self.one("#page-on").is_displayed() and self.one("#page-on").is_enabled():
            self.one("#page-on").click()
            ids += self.listed
        return ids

    def export(self) -> list[dict[str, str]]:
        for old in self.downloads.iterdir():
            old.unlink()
        self.one("#export").click()
        path = self.downloads / "samples.csv"
        self.until(lambda: path.exists() and path.stat().st_size)  # its name is taken before its text is there
        return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""), strict=True))


def write(report: ReportData, path: Path) -> Path:
    path.write_text(render(report), encoding="utf-8", newline="")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        reason = "no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("chromium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in [*SWITCHES.split(), f"--user-data-dir={folder / 'profile'}"]:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    try:
        downloads = folder / "downloads"
        downloads.mkdir()
        allow = {"behavior": "allow", "downloadPath": str(downloads)}
        chrome.execute_cdp_cmd("Page.setDownloadBehavior", allow)
        chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        yield Page(chrome, downloads)
    finally:
        chrome.quit()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(example_report(), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def opened(browser: Page, path: Path) -> Iterator[Page]:
    """The page freshly opened; whatever a test does, the console stays empty and the policy unbroken."""
    browser.driver.get_log("browser")
    browser.open(path)
    yield browser
    assert browser.js("return window.violations") == []
    assert browser.driver.get_log("browser") == []


SAMPLES = {sample.id: sample for sample in example_report().samples}


def change(sample: Sample) -> float | None:
    if "ppo" not in sample.outputs:
        return None
    before, after = sample.outputs["sft"].scores["reward"], sample.outputs["ppo"].scores["reward"]
    return None if before is None or after is None else after - before


def ids(wanted: Callable[[Sample], Any]) -> set[str]:
    return {name for name, sample in SAMPLES.items() if wanted(sample)}


def test_it_opens_with_one_page_of_rows_and_the_first_sample(opened: Page) -> None:
    assert opened.texts("#count") == ["120 of 120 samples"]
    assert opened.listed == list(SAMPLES)[:PAGE_ROWS]
    assert opened.reading == "post-0"
    assert opened.texts(".card h4") == ["SFT", "PPO", "Reference"]
    assert opened.js("return document.querySelector('figure img').naturalWidth") > 0  # the policy lets it in


def test_hostile_text_is_shown_as_text(opened: Page) -> None:
    assert opened.texts(".row-title")[0] == opened.texts(".post h3")[0] == HOSTILE
    assert "".join(opened.texts(".post p:not(.legend)")) == BREAKOUT
    assert opened.texts(".card .summary")[0] == HOSTILE
    assert opened.js("return document.querySelectorAll('script').length") == 2
    assert opened.js("return document.querySelectorAll('#samples img').length") == 0


def test_the_policy_is_in_force(browser: Page, path: Path) -> None:
    """A script that did get into the page would not run, nor would a handler, a style, or a picture from elsewhere."""
    browser.open(path)
    browser.js("""
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<p style='color: red' onclick='window.ran = true'></p>");
        document.body.lastChild.click();
        const image = new Image();
        image.src = "http://127.0.0.1:9/x.png";
    """)
    expected = {"script-src-elem", "script-src-attr", "style-src-attr", "img-src"}
    browser.until(lambda: set(browser.js("return window.violations")) == expected)
    assert browser.js("return window.ran === undefined")
    browser.driver.get_log("browser")


def test_right_to_left_text_keeps_to_itself(opened: Page) -> None:
    opened.press("j")
    style = "const s = getComputedStyle(document.querySelector(arguments[0])); return [s.direction, s.unicodeBidi]"
    assert opened.texts(".post h3") == [RIGHT_TO_LEFT]
    assert opened.js(style, ".post h3") == ["rtl", "isolate"]
    assert opened.js(style, ".row:nth-child(2) .row-title") == ["rtl", "isolate"]
    assert opened.js(style, ".post p:last-child") == ["ltr", "isolate"]  # every line has its own direction
    assert opened.js(style, ".detail-bar")[0] == "ltr"


def test_sources_are_marked_in_post_and_summary(opened: Page) -> None:
    opened.search("unicorn")
    assert opened.texts(".post p:not(.legend) mark") == ["unicorn left Madrid"]
    assert opened.texts(".card[data-contender=ppo] mark") == ["unicorn left Madrid"]
    assert opened.one(".card.is-source").get_attribute("data-contender") == "ppo"


def test_the_keys_1_2_3_choose_whose_sources_are_marked(opened: Page) -> None:
    for key, name in (("1", "sft"), ("3", "reference"), ("2", "ppo")):
        opened.press(key)
        assert opened.one(".card.is-source").get_attribute("data-contender") == name


@pytest.mark.parametrize(("name", "sign"), [("better", 1), ("worse", -1)])
def test_filters_by_the_change(opened: Page, name: str, sign: int) -> None:
    wanted = ids(lambda sample: (change(sample) or 0) * sign > 1e-6)
    opened.show(name)
    assert set(opened.every_listed()) == wanted
    assert opened.texts(f"#filters input[value={name}] + span") == [f"PPO {name}{len(wanted)}"]


def test_filters_what_is_the_same_and_what_is_degenerate(opened: Page) -> None:
    opened.show("same")
    assert set(opened.listed) == ids(lambda sample: change(sample) is not None and abs(change(sample) or 0) < 1e-6)
    opened.show("degenerate")
    assert opened.listed == ["post-2"]
    assert opened.texts(".card .fault") == ["repeats itself", "cut at the limit"]


def test_sorts_by_the_change_with_unknown_ones_last(opened: Page) -> None:
    known = [sample for sample in SAMPLES.values() if change(sample) is not None]
    upwards = [sample.id for sample in sorted(known, key=lambda sample: change(sample) or 0.0)]
    opened.choose("order", "Change PPO − SFT: lowest first")
    assert opened.reading == upwards[0]
    assert opened.every_listed() == [*upwards, "post-3", "post-4"]
    opened.choose("order", "Change PPO − SFT: highest first")
    assert opened.reading == upwards[-1]
    assert opened.every_listed()[-2:] == ["post-3", "post-4"]


def test_sorts_by_any_score_of_any_model(opened: Page) -> None:
    opened.choose("first", "Title")
    opened.choose("second", "SFT")
    opened.choose("measure", "Length in tokens")
    opened.choose("order", "Length in tokens of SFT: highest first")
    lengths = [SAMPLES[name].outputs["sft"].tokens for name in opened.every_listed()]
    assert lengths == sorted(lengths, reverse=True) and len(lengths) == 120
    assert opened.texts(".card h4") == ["Title", "SFT", "Reference"]
    assert opened.texts("#filters .filter-label")[1:3] == ["SFT longer", "SFT shorter"]


def test_the_reference_can_be_compared_with(opened: Page) -> None:
    opened.choose("first", "Reference")
    opened.show("better")
    wanted = ids(lambda sample: "ppo" in sample.outputs and (sample.outputs["ppo"].scores["reward"] or 0) > 1.0)
    assert set(opened.every_listed()) == wanted
    assert opened.texts(".card h4") == ["Reference", "PPO"]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("UNICORN", lambda sample: sample.id == "post-5"),
        ("parrot oslo", lambda sample: "parrot" in sample.post and "Oslo" in sample.post),
        ('"parrot ran off"', lambda sample: "My parrot ran off" in sample.outputs["sft"].text),
        ("<script>alert", lambda sample: sample.id == "post-0"),
        ("הכלב", lambda sample: sample.id == "post-1"),
        ("post-77", lambda sample: sample.id == "post-77"),
        (".*", lambda sample: False),
    ],
)
def test_searches_posts_summaries_and_ids(opened: Page, query: str, wanted: Callable[[Sample], bool]) -> None:
    opened.search(query)
    assert set(opened.every_listed()) == ids(wanted)


def test_nothing_found_is_said_and_taken_back_with_escape(opened: Page) -> None:
    opened.search("no such words")
    assert opened.texts("#count") == ["None of 120 samples match"]
    assert not opened.one("#export").is_enabled()
    opened.press("j", Keys.ESCAPE)
    assert opened.texts("#count") == ["120 of 120 samples"]


def test_j_and_k_walk_over_the_pages_and_stop_at_the_ends(opened: Page) -> None:
    opened.press("k", "j", "j", "k")
    assert opened.reading == "post-1"
    opened.one("#page-on").click()
    assert opened.reading == "post-50"
    opened.press("k")
    assert (opened.reading, opened.listed[0]) == ("post-49", "post-0")
    opened.one("#list").send_keys(Keys.END)
    opened.press("j")
    assert opened.reading == "post-119"
    assert len(opened.listed) == 20


def test_arrows_walk_in_the_list_and_say_so(opened: Page) -> None:
    opened.js("document.getElementById('list').focus()")
    opened.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_UP)
    chosen = opened.one("[role=option][aria-selected=true]")
    assert chosen.get_attribute("aria-posinset") == "2" and opened.reading == "post-1"
    assert opened.one("#list").get_attribute("aria-activedescendant") == chosen.get_attribute("id")
    opened.press(Keys.ENTER)
    assert opened.js("return document.activeElement.id") == "detail"


FOCUSED = "return document.activeElement.dataset.button || document.activeElement.id"


def test_the_focus_stays_on_the_button_that_was_pressed(opened: Page) -> None:
    opened.js("document.querySelector('[data-button=next]').focus()")
    opened.press(Keys.ENTER, Keys.ENTER)
    assert (opened.reading, opened.js(FOCUSED)) == ("post-2", "next")
    opened.js("document.querySelector('[data-button=previous]').focus()")
    opened.press(Keys.ENTER)
    assert (opened.reading, opened.js(FOCUSED)) == ("post-1", "previous")
    opened.press(Keys.ENTER)  # the first sample has no previous one
    assert (opened.reading, opened.js(FOCUSED)) == ("post-0", "detail")
    opened.js("document.querySelector('[data-button=sources-2]').focus()")
    opened.press(Keys.ENTER)
    assert opened.one(".card.is-source").get_attribute("data-contender") == "reference"
    assert opened.js(FOCUSED) == "sources-2"


def test_a_new_sample_takes_no_focus_from_elsewhere(opened: Page) -> None:
    opened.js("document.getElementById('list').focus()")
    opened.press(Keys.ARROW_DOWN)
    assert (opened.reading, opened.js(FOCUSED)) == ("post-1", "list")


def test_slash_searches_and_keys_typed_there_are_text(opened: Page) -> None:
    opened.press("/", "j", "k", "1", "?")
    assert opened.one("#search").get_attribute("value") == "jk1?"
    assert not opened.one("#help").is_displayed()
    opened.press(Keys.ESCAPE, Keys.ESCAPE)
    assert opened.one("#search").get_attribute("value") == ""
    assert opened.js("return document.activeElement.id") == "list"


def test_the_question_mark_opens_help(opened: Page) -> None:
    opened.press("?")
    assert opened.one("#help").is_displayed()
    opened.press("j")
    opened.press(Keys.ESCAPE)
    assert not opened.one("#help").is_displayed()
    assert opened.reading == "post-0"
    opened.one("#help-button").click()
    opened.one("#help-close").click()
    assert not opened.one("#help").is_displayed()


def test_keys_with_a_modifier_are_the_browsers(opened: Page) -> None:
    opened.js("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'j', ctrlKey: true, bubbles: true}))")
    assert opened.reading == "post-0"


def test_export_has_the_rows_shown_in_their_order(opened: Page) -> None:
    opened.search("parrot")
    opened.show("better")
    opened.choose("order", "Reward of PPO: highest first")
    rows, shown = opened.export(), opened.every_listed()
    assert shown and [row["id"] for row in rows] == shown
    sample = SAMPLES[shown[0]]
    assert rows[0]["post"] == sample.post and rows[0]["reference"] == sample.reference
    assert rows[0]["ppo_summary"] == sample.outputs["ppo"].text
    assert float(rows[0]["ppo_reward"]) == sample.outputs["ppo"].scores["reward"]
    assert (rows[0]["sft_ended"], rows[0]["sft_tokens"], rows[0]["sft_faults"]) == ("true", "4", "")
    assert "reference_reward" in rows[0] and "reference_rouge1" not in rows[0]


def test_export_of_everything(opened: Page) -> None:
    rows = opened.export()
    assert [row["id"] for row in rows] == list(SAMPLES)
    assert rows[3]["title_summary"] == rows[3]["title"] == "Alone"  # a model may be called title
    assert rows[0]["title"] == HOSTILE and rows[0]["post"] == BREAKOUT
    assert rows[0]["ppo_summary"] == "'=1+1"
    assert rows[2]["ppo_faults"] == "repeats no_eos"
    assert rows[3]["ppo_summary"] == rows[3]["ppo_reward"] == rows[4]["sft_reward"] == ""
    assert rows[5]["post"].startswith("😀😀 My unicorn")


FORMULAS = [
    "=1",
    "+1",
    " -1",
    "@x",
    "＝1",
    "\t1",
    "\rx",
    "\n=1",
    "'=1",
    "''=1",
    "\u200b=1",
    "\ufeff@",
    "\x00=",
    "\x1c=",
]
FORMULAS += ["\x85=1", "\u3000=1", "'tis", "'", "a=1", "", '"=1"', ",=1", "−1"]


def test_export_neutralises_as_the_other_files_do(browser: Page, tmp_path: Path) -> None:
    """The script's rule against Python's, cell by cell, and back."""
    first = next(iter(SAMPLES.values()))
    samples = [replace(first, id=str(number), title=text) for number, text in enumerate(FORMULAS)]
    browser.open(write(replace(example_report(), samples=samples), tmp_path / "formulas.html"))
    cells = [row["title"] for row in browser.export()]
    assert cells == [neutralise(text) for text in FORMULAS]
    assert [restore(cell) for cell in cells] == FORMULAS


def test_the_sort_and_the_list_of_one_model_without_scores(browser: Page, tmp_path: Path) -> None:
    """One model, no score but length: the reference is what it is compared with, and nothing breaks."""
    samples = [
        replace(s, reference_scores={}, outputs={"sft": replace(s.outputs["sft"], scores={})}) for s in SAMPLES.values()
    ]
    browser.driver.get_log("browser")
    browser.open(write(replace(example_report(), models=["sft"], samples=samples), tmp_path / "one.html"))
    assert browser.texts(".card h4") == ["SFT", "Reference"]
    browser.choose("order", "Length in tokens of SFT: lowest first")
    assert browser.driver.get_log("browser") == []


def test_on_a_phone_the_sample_takes_the_lists_place(opened: Page) -> None:
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    opened.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert opened.js("return document.documentElement.scrollWidth") == 390  # nothing sticks out
        assert not opened.one("#detail").is_displayed()
        opened.one(".row:nth-child(3)").click()
        assert opened.one("#detail").is_displayed() and not opened.one("#list").is_displayed()
        assert opened.reading == "post-2"
        assert opened.js("return document.documentElement.scrollWidth") == 390
        opened.one(".back").click()
        assert opened.one("#list").is_displayed()
    finally:
        opened.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_2000_samples_put_one_page_of_rows_into_the_document(browser: Page, tmp_path: Path) -> None:
    report = example_report(posts=2000, sentences=30)
    path = write(report, tmp_path / "many.html")
    start = time.perf_counter()
    browser.open(path)
    opened = time.perf_counter() - start
    assert len(browser.listed) == PAGE_ROWS
    assert browser.js("return document.querySelectorAll('*').length") < 1500
    browser.search("parrot")
    browser.show("worse")
    browser.choose("order", "Change PPO − SFT: lowest first")
    assert len(browser.listed) == PAGE_ROWS
    took = browser.js("return performance.getEntriesByName('inspector-refresh').map((one) => one.duration)")
    ready = browser.js("return performance.getEntriesByName('inspector-ready')[0].startTime")
    print(
        f"{path.stat().st_size / 1e6:.1f} MB, ready after {ready:.0f} ms (seen after {1000 * opened:.0f} ms),", end=" "
    )
    print("made anew in", ", ".join(f"{one:.0f}" for one in took), "ms")
