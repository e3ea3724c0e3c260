"""The page as text: its structure, its policy, and that nothing it shows can become markup."""

import base64
import hashlib
import json
import math
import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.report import page
from evaluation.report.data import Figure, Output, ReportData, Sample, Section
from evaluation.table import Table
from tests.evaluation.report.example_report import BREAKOUT, HOSTILE, RIGHT_TO_LEFT, SVG, example_report

ANY_TEXT = st.text(st.characters(codec=None))  # lone surrogates too
VOID = {"meta", "link", "img", "input"}


class Parsed(HTMLParser):
    """Elements with their attributes and own text, in order; every tag closed in its turn."""

    def __init__(self, html: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None], list[str]]] = []
        self._open: list[tuple[str, list[str]]] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        text: list[str] = []
        self.elements.append((tag, dict(attrs), text))
        if tag not in VOID:
            self._open.append((tag, text))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open:
            self._open[-1][1].append(data)

    def all(self, tag: str, **wanted: str) -> list[tuple[dict[str, str | None], str]]:
        return [
            (attributes, "".join(text))
            for name, attributes, text in self.elements
            if name == tag and all(attributes.get(key.rstrip("_")) == value for key, value in wanted.items())
        ]


def parse(report: ReportData) -> Parsed:
    return Parsed(page.render(report))


def data_of(parsed: Parsed) -> dict[str, Any]:
    ((_, text),) = parsed.all("script", type="application/json")
    return json.loads(text)


@pytest.fixture(scope="module")
def parsed() -> Parsed:
    return parse(example_report())


def test_headings_facts_and_what_is_missing(parsed: Parsed) -> None:
    assert [text for _, text in parsed.all("h1")] == ["SFT against PPO"]
    assert [text for _, text in parsed.all("h2")] == ["What is missing", "Results", "Samples"]
    assert [text for _, text in parsed.all("dt")] == ["Task", "Posts"]
    assert [text for _, text in parsed.all("dd")] == ["miniature", "120"]
    assert [text for _, text in parsed.all("code")] == ["python -m evaluation frontier"]
    names = [name for name, _, _ in parsed.elements]
    assert names.index("aside") < names.index("dl") < names.index("table")  # what is missing is on top


def test_without_anything_missing_there_is_no_such_box() -> None:
    assert not parse(replace(example_report(), missing=[])).all("aside")


def test_a_table_has_heads_and_numbers_to_the_right(parsed: Parsed) -> None:
    assert [text for _, text in parsed.all("th", scope="col")] == ["Model", "Reward", "Above zero"]
    assert [text for _, text in parsed.all("th", scope="col", class_="number")] == ["Reward"]
    assert [text.strip() for _, text in parsed.all("td", class_="number")] == ["0.320", "−0.2"]
    assert [text for _, text in parsed.all("span", class_="interval")] == ["[0.311, 0.329]"]
    assert [text for _, text in parsed.all("th", scope="row")][:2] == ["SFT", "PPO <b>"]


@pytest.mark.parametrize(
    ("cells", "is_number"),
    [
        (["0.3 [0.2, 0.4]", "–"], True),
        (["+0.41", "−0.2", "-0.3"], True),
        (["[+0.30, +0.52]"], True),
        (["12.5%", "1,024"], True),
        (["yes", "no"], False),
        (["–", ""], False),
        (["3 of a kind", "none"], False),
        (["sft"], False),
        ([], False),
    ],
)
def test_which_columns_hold_numbers(cells: list[str], is_number: bool) -> None:
    (column,) = page.columns(Table("", ["x"], [[cell] for cell in cells], ""))
    assert column.is_number is is_number


def test_a_short_row_is_filled() -> None:
    columns = page.columns(Table("", ["a", "b"], [["1"], ["2", "3"]], ""))
    assert [cell.main for cell in columns[1].cells] == ["", "3"]


def test_a_name_with_brackets_stays_whole() -> None:
    assert page.columns(Table("", ["a"], [["model [new]"]], ""))[0].cells == [page.Cell("model [new]")]


def test_figures_are_images_with_words(parsed: Parsed) -> None:
    ((image, _),) = parsed.all("img")
    assert image["alt"] == "The reward rises"
    kind, _, content = str(image["src"]).partition(",")
    assert kind == "data:image/svg+xml;base64" and base64.b64decode(content).decode() == SVG


@pytest.mark.parametrize(("width", "wide"), [(504, False), (505.5, True)])
def test_broad_figures_get_a_row(width: float, wide: bool) -> None:
    svg = f'<?xml version="1.0"?><svg height="9pt" viewBox="0 0 {width} 300" width="1pt"/>'
    assert page.is_wide(Figure("f", "", "", svg, "")) is wide
    assert not page.is_wide(Figure("f", "", "", "<svg/>", ""))


def test_the_policy_allows_this_style_and_script_only(parsed: Parsed) -> None:
    ((meta, _),) = [(a, t) for a, t in parsed.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    policy = dict(part.strip().split(" ", 1) for part in str(meta["content"]).split(";"))
    ((_, style),) = parsed.all("style")
    ((_, script),) = [(a, t) for a, t in parsed.all("script") if "type" not in a]

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": digest(style),
        "script-src": digest(script),
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_policy_comes_before_what_it_governs(parsed: Parsed) -> None:
    places = [
        place
        for place, (name, attributes, _) in enumerate(parsed.elements)
        if name in ("style", "script", "link") or attributes.get("http-equiv")
    ]
    assert parsed.elements[places[0]][1].get("http-equiv") == "Content-Security-Policy"


def test_nothing_comes_from_elsewhere(parsed: Parsed) -> None:
    links = [str(a[key]) for _, a, _ in parsed.elements for key in ("src", "href", "action", "srcset") if key in a]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert all(link[1:] in {a.get("id") for _, a, _ in parsed.elements} for link in links if link.startswith("#"))
    assert "@import" not in page.render(example_report()) and "url(" not in (page._HERE / "style.css").read_text()


def test_ids_are_there_once_and_labels_point_at_them(parsed: Parsed) -> None:
    ids = [str(a["id"]) for _, a, _ in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes, _ in parsed.elements:
        for key in ("for", "aria-labelledby"):
            assert key not in attributes or attributes[key] in ids


def hostile(text: str) -> ReportData:
    """The text wherever a report holds text, but for the ids that this project writes itself."""
    table = Table(text, [text, text], [[text, text], [text]], text, text)
    output = Output(text, {"reward": 1.0, text: 2.0}, True, 1, [text])
    return ReportData(
        title=text,
        made=text,
        facts=[(text, text)],
        missing=[text],
        sections=[Section("s", text, text, [table], [Figure("f", text, text, text, text)])],
        models=[text],
        samples=[Sample(text, text, text, text, text, {"reward": 0.0}, {text: output})],
    )


@pytest.mark.parametrize("text", [HOSTILE, BREAKOUT, '" onload="alert(1)', "{{ 7 * 7 }}", "]]><!--<script>"])
def test_text_never_becomes_markup(text: str) -> None:
    tame, parsed = parse(hostile("tame")), parse(hostile(text))
    assert [(name, list(a)) for name, a, _ in parsed.elements] == [(name, list(a)) for name, a, _ in tame.elements]
    assert not [key for _, a, _ in parsed.elements for key in a if key.startswith("on") or key == "style"]
    assert parsed.all("h1")[0][1] == text


@settings(max_examples=100, deadline=None)
@given(ANY_TEXT)
def test_any_text_is_shown_as_it_is(text: str) -> None:
    """But for NUL and lone surrogates, which a page or a file cannot hold."""
    parsed = parse(hostile(text))
    whole = page.whole_text(text)
    shown = whole.replace("\x00", "\ufffd")
    assert parsed.all("h1")[0][1] == parsed.all("dd")[0][1] == shown
    (sample,) = data_of(parsed)["samples"]
    assert sample["id"] == sample["title"] == sample["post"] == sample["reference"]["text"] == whole
    assert sample["outputs"][0]["text"] == whole


@settings(deadline=None)
@given(
    st.recursive(st.none() | ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner), max_leaves=6)
)
def test_script_data_is_json_without_a_way_out(value: Any) -> None:
    text = page.as_script_data(value)
    assert json.loads(text) == value
    assert not re.search("[<\u2028\u2029]", text)


def test_script_data_knows_no_nan() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        page.as_script_data([math.nan])


def test_surrogates() -> None:
    assert page.whole_text("a\ud83d\ude00b") == "a😀b"
    assert page.whole_text("a\ud83db\ude00\ud83d") == "a\ufffdb\ufffd\ufffd"


def test_what_the_inspector_reads(parsed: Parsed) -> None:
    data = data_of(parsed)
    assert [model["label"] for model in data["models"]] == ["SFT", "PPO", "Title"]
    assert [measure["name"] for measure in data["measures"]] == ["reward", "gold", "rouge1"]
    assert len(data["samples"]) == 120
    first, alone, unknown, unicorn = (data["samples"][number] for number in (0, 3, 4, 5))
    assert first["title"] == HOSTILE and first["post"] == BREAKOUT
    assert first["reference"]["scores"] == [1.0, 1.0, None]
    assert alone["outputs"][1] is None  # PPO wrote nothing on this post
    assert unknown["outputs"][0]["scores"][0] is None
    # "😀😀 My unicorn left Madrid": after the line break that ends the empty title, in characters.
    assert unicorn["outputs"][1]["spans"] == [7, 26, 4, 23, 3]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_scores_that_are_no_numbers_are_unknown(value: float | None) -> None:
    assert page._scores({"reward": value, "gold": 1 / 3}, ["reward", "gold", "rouge1"]) == [None, 0.333333, None]


def test_words_of_the_title_are_sources_too() -> None:
    sample = Sample(
        "1", "", "My parrot sings", "It will not stop.", "", {}, {"m": Output("parrot sings", {}, True, 2, [])}
    )
    data = data_of(parse(replace(example_report(), models=["m"], samples=[sample])))
    assert data["samples"][0]["outputs"][0]["spans"] == [3, 15, 0, 12, 2]


def test_without_samples_there_is_no_script() -> None:
    parsed = parse(replace(example_report(), samples=[]))
    assert not parsed.all("script")
    assert [text for _, text in parsed.all("p", class_="about")][-1] == "There are no samples to look through."


def test_right_to_left_text_is_written_as_it_is() -> None:
    assert RIGHT_TO_LEFT in page.render(example_report())


def test_the_script_makes_text_only() -> None:
    script = page.inspector_script()
    ways_out = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|\.style\b|fetch\(|import\("
    )
    assert not re.findall(ways_out, script)
    assert "</script" not in script and "<!--" not in script
    assert "</style" not in (Path(page.__file__).parent / "style.css").read_text(encoding="utf-8")


def test_every_part_of_the_inspector_is_in_the_script_once_and_packaged() -> None:
    folder = Path(page.__file__).parent
    assert sorted(f"{name}.js" for name in page.INSPECTOR) == sorted(
        one.name for one in (folder / "inspector").iterdir()
    )
    script = page.inspector_script()
    assert all(script.count((folder / "inspector" / f"{name}.js").read_text("utf-8")) == 1 for name in page.INSPECTOR)
    project = tomllib.loads((folder.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["evaluation.report"]
    packaged = {one for pattern in patterns for one in folder.glob(pattern)}
    assert packaged >= {*folder.glob("**/*.js"), folder / "style.css", folder / "template.html.j2"}
