// The sample inspector of the report: search, compare, sort, filter, read, export.
// Posts and summaries are hostile text: they reach the page as text nodes only, never as HTML.
"use strict";
(() => {
  const PAGE_ROWS = 50; // rows of the list in the document at a time
  const SEARCH_DELAY = 120; // milliseconds without a keystroke before the search runs
  const SAME = 1e-6; // a smaller change of a score is none
  const PHONE = window.matchMedia("(max-width: 48rem)");
  // What a spreadsheet might run as a formula; the same rule as trlx/utils/spreadsheet.py.
  const RISKY = /^'*(?:[\t\r\n]|[\s\x1c-\x1f\x85\ufeff\u200b\0]*[=+\-@＝＋－＠])/;

  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("report-data").textContent);
  const samples = data.samples;
  const measures = [
    ...data.measures.map((measure) => ({ ...measure, digits: 3, up: "better", down: "worse" })),
    { name: "tokens", label: "Length in tokens", digits: 0, up: "longer", down: "shorter" },
  ];
  const REFERENCE = data.models.length; // the contender after the last model
  const contenders = [...data.models, { name: "reference", label: "Reference" }];

  const state = {
    query: "",
    first: 0,
    second: Math.min(1, REFERENCE),
    measure: 0,
    order: "file",
    filter: "all",
    shown: [], // numbers of the samples that search and filter leave, sorted
    at: 0, // place in `shown` of the sample that is read
    source: 1, // which card's words are marked in the post
  };

  // ---- values --------------------------------------------------------------------------------------------------

  // A contender's summary of a sample: {text, scores, spans, ...}, or null where it wrote none.
  function entryOf(sample, contender) {
    return contender === REFERENCE ? sample.reference : sample.outputs[contender];
  }

  function valueOf(entry, measure) {
    if (!entry) return null;
    const value = measure < data.measures.length ? entry.scores[measure] : entry.tokens;
    return value === undefined ? null : value;
  }

  // Second minus first by the chosen score, or null where either is unknown.
  function changeOf(sample, measure = state.measure) {
    const before = valueOf(entryOf(sample, state.first), measure);
    const after = valueOf(entryOf(sample, state.second), measure);
    return before === null || after === null ? null : after - before;
  }

  function faultsOf(entry) {
    if (!entry || !entry.faults) return [];
    const cut = entry.ended === false && !entry.faults.includes("no_eos");
    return cut ? [...entry.faults, "no_eos"] : entry.faults;
  }

  function isDegenerate(sample) {
    return [state.first, state.second].some((contender) => faultsOf(entryOf(sample, contender)).length > 0);
  }

  function formatted(value, digits) {
    return value === null ? "–" : value.toFixed(digits).replace("-", "−");
  }

  // With its sign; a change that rounds to nothing has none.
  function signed(value, digits) {
    const text = formatted(Math.abs(value), digits);
    if (Number(text) === 0) return `±${text}`;
    return (value > 0 ? "+" : "−") + text;
  }

  // ---- making elements ------------------------------------------------------------------------------------------

  function make(tag, className = "", text = "") {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text) element.textContent = text;
    return element;
  }

  // Text by strangers: its direction is its own and does not leak into what stands around it.
  function makeForeign(tag, className = "", text = "") {
    const element = make(tag, className, text);
    element.dir = "auto";
    return element;
  }

  function makeButton(text, className, act) {
    const button = make("button", className, text);
    button.type = "button";
    button.addEventListener("click", act);
    return button;
  }

  function makeChange(change, measure) {
    const { digits, up, down } = measures[measure];
    const known = Math.abs(change) > SAME;
    const kind = known && up === "better" ? (change > 0 ? " up" : " down") : "";
    const element = make("span", `change${kind}`, signed(change, digits));
    element.title = known ? (change > 0 ? up : down) : "the same";
    return element;
  }

  function fillSelect(select, labels, values, chosen) {
    select.replaceChildren(
      ...labels.map((label, place) => {
        const option = make("option", "", label);
        option.value = String(values[place]);
        return option;
      }),
    );
    select.value = String(chosen);
  }

  // ---- search, filter, sort -------------------------------------------------------------------------------------

  // Everything of a sample that the search looks in, in lower case, made once.
  function haystackOf(sample) {
    const texts = sample.outputs.map((output) => (output ? output.text : ""));
    return [sample.id, `r/${sample.subreddit}`, sample.title, sample.post, sample.reference.text, ...texts]
      .join("\n")
      .toLowerCase();
  }

  // Words and "quoted phrases" of the query, in lower case.
  function termsOf(query) {
    return [...query.toLowerCase().matchAll(/"([^"]+)"|([^\s"]+)/g)].map((match) => match[1] || match[2]);
  }

  function searched() {
    const terms = termsOf(state.query);
    const all = samples.map((_, number) => number);
    return all.filter((number) => terms.every((term) => haystacks[number].includes(term)));
  }

  const FILTERS = {
    all: () => true,
    better: (sample) => changeOf(sample) > SAME,
    worse: (sample) => changeOf(sample) < -SAME,
    same: (sample) => changeOf(sample) !== null && Math.abs(changeOf(sample)) <= SAME,
    degenerate: isDegenerate,
  };

  function filterLabel(name) {
    const second = contenders[state.second].label;
    const { up, down } = measures[state.measure];
    return { all: "All", better: `${second} ${up}`, worse: `${second} ${down}`, same: "Same", degenerate: "Degenerate" }[
      name
    ];
  }

  // What the chosen order sorts by, or null where it is unknown.
  function sortKey(sample, what) {
    if (what === "change") return changeOf(sample);
    return valueOf(entryOf(sample, state[what]), state.measure);
  }

  // Unknown values come last in either direction; equal ones stay in the file's order.
  function sorted(numbers) {
    if (state.order === "file") return numbers;
    const [what, direction] = state.order.split("-");
    const sign = direction === "down" ? -1 : 1;
    const keys = new Map(numbers.map((number) => [number, sortKey(samples[number], what)]));
    return [...numbers].sort((left, right) => {
      const [a, b] = [keys.get(left), keys.get(right)];
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (a - b);
    });
  }

  // Search, filter and sort anew, and show the result from its top, or from the sample that is being read.
  function refresh(keep = false) {
    const start = performance.now();
    const reading = keep ? state.shown[state.at] : undefined;
    const found = searched();
    showFilterCounts(found);
    state.shown = sorted(found.filter((number) => FILTERS[state.filter](samples[number])));
    state.at = Math.max(0, state.shown.indexOf(reading));
    showList();
    showDetail();
    performance.measure("inspector-refresh", { start });
  }

  // ---- the controls ---------------------------------------------------------------------------------------------

  function showSelects() {
    const names = contenders.map((contender) => contender.label);
    const places = contenders.map((_, place) => place);
    fillSelect(byId("first"), names, places, state.first);
    fillSelect(byId("second"), names, places, state.second);
    const labels = measures.map((measure) => measure.label);
    fillSelect(byId("measure"), labels, measures.map((_, place) => place), state.measure);
    showOrders();
  }

  function showOrders() {
    const [first, second] = [contenders[state.first].label, contenders[state.second].label];
    const score = measures[state.measure].label;
    const orders = {
      file: "Order of the file",
      "change-down": `Change ${second} − ${first}: highest first`,
      "change-up": `Change ${second} − ${first}: lowest first`,
      "second-down": `${score} of ${second}: highest first`,
      "second-up": `${score} of ${second}: lowest first`,
      "first-down": `${score} of ${first}: highest first`,
      "first-up": `${score} of ${first}: lowest first`,
    };
    fillSelect(byId("order"), Object.values(orders), Object.keys(orders), state.order);
  }

  function makeFilters() {
    for (const name of Object.keys(FILTERS)) {
      const label = make("label", "filter");
      const radio = make("input");
      radio.type = "radio";
      radio.name = "filter";
      radio.value = name;
      radio.checked = name === state.filter;
      const text = make("span", "filter-name");
      text.append(make("span", "filter-label"), make("span", "filter-count"));
      label.append(radio, text);
      byId("filters").append(label);
    }
  }

  function showFilterCounts(found) {
    for (const label of byId("filters").querySelectorAll("label")) {
      const name = label.querySelector("input").value;
      const count = found.filter((number) => FILTERS[name](samples[number])).length;
      label.querySelector(".filter-label").textContent = filterLabel(name);
      label.querySelector(".filter-count").textContent = count.toLocaleString("en");
    }
  }

  // ---- the list -------------------------------------------------------------------------------------------------

  const pageOf = (place) => Math.floor(place / PAGE_ROWS);
  const pageCount = () => Math.max(1, Math.ceil(state.shown.length / PAGE_ROWS));

  function showList() {
    const [from, total] = [pageOf(state.at) * PAGE_ROWS, state.shown.length];
    const rows = state.shown.slice(from, from + PAGE_ROWS).map((number, offset) => makeRow(number, from + offset));
    byId("list").replaceChildren(...rows);
    byId("list").scrollTop = 0;
    byId("list").dataset.page = String(pageOf(state.at));
    const all = samples.length.toLocaleString("en");
    byId("count").textContent = total ? `${total.toLocaleString("en")} of ${all} samples` : `None of ${all} samples match`;
    byId("export").disabled = total === 0;
    byId("export").textContent = `Export CSV (${total.toLocaleString("en")})`;
    byId("pager").hidden = pageCount() === 1;
    byId("page-name").textContent = `Page ${pageOf(state.at) + 1} of ${pageCount()}`;
    byId("page-back").disabled = pageOf(state.at) === 0;
    byId("page-on").disabled = pageOf(state.at) === pageCount() - 1;
    markChosenRow();
  }

  function makeRow(number, place) {
    const sample = samples[number];
    const row = make("li", "row");
    row.id = `row-${place}`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-posinset", String(place + 1));
    row.setAttribute("aria-setsize", String(state.shown.length));
    row.dataset.place = String(place);
    row.append(makeForeign("span", "row-title", sample.title || sample.post.slice(0, 120) || "(empty post)"));
    const about = make("span", "row-about");
    about.append(makeForeign("span", "row-id", sample.subreddit ? `r/${sample.subreddit} · ${sample.id}` : sample.id));
    about.append(makeRowScores(sample));
    row.append(about);
    if (isDegenerate(sample)) row.append(make("span", "fault", "degenerate"));
    return row;
  }

  function makeRowScores(sample) {
    const digits = measures[state.measure].digits;
    const [before, after] = [state.first, state.second].map((contender) =>
      formatted(valueOf(entryOf(sample, contender), state.measure), digits),
    );
    const scores = make("span", "row-scores", `${before} → ${after}`);
    const change = changeOf(sample);
    if (change !== null) scores.append(makeChange(change, state.measure));
    return scores;
  }

  function markChosenRow() {
    for (const row of byId("list").children) {
      row.setAttribute("aria-selected", String(Number(row.dataset.place) === state.at));
    }
    byId("list").setAttribute("aria-activedescendant", state.shown.length ? `row-${state.at}` : "");
  }

  // Read another sample; `place` beyond the ends stays at the end.
  function choose(place) {
    if (!state.shown.length) return;
    state.at = Math.max(0, Math.min(place, state.shown.length - 1));
    if (byId("list").dataset.page === String(pageOf(state.at))) markChosenRow();
    else showList();
    byId(`row-${state.at}`).scrollIntoView({ block: "nearest" });
    showDetail();
    byId("detail").scrollTop = 0;
  }

  // ---- the detail view ------------------------------------------------------------------------------------------

  function showDetail() {
    const detail = byId("detail");
    if (!state.shown.length) {
      detail.replaceChildren(make("p", "nothing", "No sample matches. Esc clears the search; “All” takes the filter off."));
      return;
    }
    const sample = samples[state.shown[state.at]];
    const cards = cardsOf();
    state.source = Math.min(state.source, cards.length - 1);
    const marked = entryOf(sample, cards[state.source]);
    const parts = [makeBar(sample), makeCards(sample, cards), makePost(sample, marked, contenders[cards[state.source]].label)];
    detail.replaceChildren(...parts);
  }

  // The contenders side by side: the two compared and the reference, none twice.
  function cardsOf() {
    return [...new Set([state.first, state.second, REFERENCE])];
  }

  function makeBar(sample) {
    const bar = make("div", "detail-bar");
    const about = make("p", "detail-about");
    if (sample.subreddit) about.append(makeForeign("span", "subreddit", `r/${sample.subreddit}`));
    about.append(makeForeign("span", "sample-id", sample.id));
    const position = `${(state.at + 1).toLocaleString("en")} of ${state.shown.length.toLocaleString("en")}`;
    const back = makeButton("‹ List", "quiet back", closeSample);
    const previous = makeButton("Previous", "quiet", () => choose(state.at - 1));
    const next = makeButton("Next", "quiet", () => choose(state.at + 1));
    previous.disabled = state.at === 0;
    next.disabled = state.at === state.shown.length - 1;
    bar.append(back, about, make("span", "position", position), previous, next);
    return bar;
  }

  function makeCards(sample, cards) {
    const box = make("div", "cards");
    box.append(...cards.map((contender, place) => makeCard(sample, contender, place)));
    return box;
  }

  function makeCard(sample, contender, place) {
    const entry = entryOf(sample, contender);
    const card = make("section", place === state.source ? "card is-source" : "card");
    card.dataset.contender = contenders[contender].name;
    const head = make("div", "card-head");
    const name = makeForeign("h4", "", contenders[contender].label);
    head.append(name);
    card.append(head);
    if (!entry) {
      card.append(make("p", "nothing", "No summary of this post."));
      return card;
    }
    head.append(makeSourceButton(contenders[contender].label, place));
    card.append(makeSummary(entry), makeFaults(entry), makeScores(sample, entry, contender));
    return card;
  }

  function makeSourceButton(label, place) {
    const button = makeButton("sources", "quiet small", () => showSources(place));
    button.setAttribute("aria-pressed", String(place === state.source));
    button.setAttribute("aria-label", `Mark the words of ${label} in the post`);
    button.setAttribute("aria-keyshortcuts", String(place + 1));
    return button;
  }

  function makeSummary(entry) {
    const text = makeForeign("p", "summary");
    const chars = Array.from(entry.text);
    if (chars.length) appendMarked(text, chars, levelsOf(chars.length, entry.spans, 2), 0, chars.length);
    else text.append(make("em", "nothing", "(empty)"));
    return text;
  }

  function makeFaults(entry) {
    const line = make("p", "faults");
    line.append(...faultsOf(entry).map((name) => make("span", "fault", data.faults[name] || name)));
    return line;
  }

  // All scores; the second contender's with their change from the first's.
  function makeScores(sample, entry, contender) {
    const list = make("dl", "scores");
    measures.forEach((measure, place) => {
      const pair = make("div", valueOf(entry, place) === null ? "unknown" : "");
      const value = make("dd", "", formatted(valueOf(entry, place), measure.digits));
      const change = contender === state.second && contender !== state.first ? changeOf(sample, place) : null;
      if (change !== null) value.append(makeChange(change, place));
      pair.append(make("dt", "", measure.label), value);
      list.append(pair);
    });
    return list;
  }

  function makePost(sample, entry, label) {
    const box = make("div", "post");
    const [title, chars] = [Array.from(sample.title), Array.from(`${sample.title}\n${sample.post}`)];
    const levels = levelsOf(chars.length, entry ? entry.spans : [], 0);
    const heading = makeForeign("h3");
    appendMarked(heading, chars, levels, 0, title.length);
    box.append(makeLegend(label));
    if (title.length) box.append(heading);
    appendLines(box, chars, levels, title.length + 1);
    return box;
  }

  function makeLegend(label) {
    const legend = make("p", "legend");
    legend.append(makeForeign("span", "", `Post, with the sources of ${label}: `));
    ["one word", "two to four", "five or more"].forEach((text, place) => {
      legend.append(make("mark", `level-${place + 1}`, text), " ");
    });
    return legend;
  }

  // How long the run of words is that a character belongs to: 0 none, 1 one word, 2 two to four, 3 five or more.
  // `side` is the place of start and end in a span's five numbers: 0 for the post, 2 for the summary.
  function levelsOf(length, spans, side) {
    const levels = new Uint8Array(length);
    for (let at = 0; at < spans.length; at += 5) {
      const words = spans[at + 4];
      const level = words >= 5 ? 3 : words >= 2 ? 2 : 1;
      for (let place = spans[at + side]; place < spans[at + side + 1]; place++) {
        levels[place] = Math.max(levels[place], level);
      }
    }
    return levels;
  }

  // The characters from `begin` to `end` as text nodes and <mark>s of equal level.
  function appendMarked(parent, chars, levels, begin, end) {
    let at = begin;
    while (at < end) {
      let stop = at + 1;
      while (stop < end && levels[stop] === levels[at]) stop++;
      const text = chars.slice(at, stop).join("");
      parent.append(levels[at] ? make("mark", `level-${levels[at]}`, text) : document.createTextNode(text));
      at = stop;
    }
  }

  // Every line is a paragraph with a direction of its own; blank ones are left out.
  function appendLines(parent, chars, levels, begin) {
    let at = begin;
    while (at < chars.length) {
      const feed = chars.indexOf("\n", at);
      const end = feed === -1 ? chars.length : feed;
      if (chars.slice(at, end).join("").trim()) {
        const line = makeForeign("p");
        appendMarked(line, chars, levels, at, end);
        parent.append(line);
      }
      at = end + 1;
    }
  }

  function showSources(place) {
    if (place >= cardsOf().length) return;
    const focused = document.activeElement.closest(".card") !== null;
    state.source = place;
    showDetail();
    if (focused) byId("detail").querySelectorAll(".card .small")[place]?.focus();
  }

  // On a phone the sample takes the list's place.
  function openSample() {
    byId("browser").classList.add("is-open");
    byId("detail").focus({ preventScroll: !PHONE.matches });
  }

  function closeSample() {
    byId("browser").classList.remove("is-open");
    byId("list").focus({ preventScroll: true });
    byId(`row-${state.at}`)?.scrollIntoView({ block: "nearest" });
  }

  // ---- export ---------------------------------------------------------------------------------------------------

  function csvCell(value) {
    if (typeof value === "number") return String(value);
    const text = value === null || value === undefined ? "" : String(value);
    const safe = RISKY.test(text) ? `'${text}` : text;
    return `"${safe.replaceAll('"', '""')}"`;
  }

  // Scores that any reference has: it has no ROUGE against itself.
  function referenceMeasures() {
    return data.measures
      .map((measure, place) => ({ name: measure.name, place }))
      .filter(({ place }) => samples.some((sample) => sample.reference.scores[place] !== null));
  }

  function csvHeader(ofReference) {
    const perModel = ["_summary", ...data.measures.map((measure) => `_${measure.name}`), "_tokens", "_ended", "_faults"];
    return [
      ...["id", "subreddit", "title", "post", "reference"],
      ...ofReference.map(({ name }) => `reference_${name}`),
      ...data.models.flatMap(({ name }) => perModel.map((end) => name + end)),
    ];
  }

  function csvRow(sample, ofReference) {
    const blank = { text: null, scores: data.measures.map(() => null), tokens: null, ended: null, faults: [] };
    const outputs = sample.outputs.map((output) => output || blank);
    return [
      ...[sample.id, sample.subreddit, sample.title, sample.post, sample.reference.text],
      ...ofReference.map(({ place }) => sample.reference.scores[place]),
      ...outputs.flatMap((one) => [one.text, ...one.scores, one.tokens, one.ended, one.faults.join(" ")]),
    ];
  }

  // The rows shown, in their order, as RFC 4180 has it but for line ends "\n", like the evaluation's own CSVs.
  function csvText() {
    const ofReference = referenceMeasures();
    const rows = [csvHeader(ofReference), ...state.shown.map((number) => csvRow(samples[number], ofReference))];
    return rows.map((row) => row.map(csvCell).join(",") + "\n").join("");
  }

  function exportRows() {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([csvText()], { type: "text/csv;charset=utf-8" }));
    link.download = "samples.csv";
    document.body.append(link);
    link.click();
    link.remove();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }

  // ---- events ---------------------------------------------------------------------------------------------------

  function debounced(act, delay) {
    let timer = 0;
    return () => {
      clearTimeout(timer);
      timer = setTimeout(act, delay);
    };
  }

  function search() {
    state.query = byId("search").value;
    refresh();
  }

  function clearSearch() {
    byId("search").value = "";
    search();
  }

  function goToSearch() {
    byId("search").focus();
    byId("search").select();
    byId("controls").scrollIntoView({ block: "nearest" });
  }

  // Esc, from the innermost: the search's words, the search, the sample.
  function leave() {
    if (document.activeElement === byId("search") && !byId("search").value) byId("list").focus();
    else if (state.query || byId("search").value) clearSearch();
    else closeSample();
  }

  const step = (by) => () => {
    choose(state.at + by);
    byId("browser").scrollIntoView({ block: "nearest" });
  };
  const KEYS = { j: step(1), k: step(-1), "/": goToSearch, "?": () => byId("help").showModal(), Escape: leave };
  const LIST_KEYS = {
    ArrowDown: () => choose(state.at + 1),
    ArrowUp: () => choose(state.at - 1),
    PageDown: () => choose(state.at + PAGE_ROWS),
    PageUp: () => choose(state.at - PAGE_ROWS),
    Home: () => choose(0),
    End: () => choose(state.shown.length - 1),
    Enter: openSample,
  };

  function actOnKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const typing = event.target.matches("input[type=search], select");
    if (typing && event.key !== "Escape") return;
    let act = KEYS[event.key];
    if (event.target === byId("list")) act = LIST_KEYS[event.key] || act;
    if ("123".includes(event.key)) act = () => showSources(Number(event.key) - 1);
    if (!act) return;
    event.preventDefault();
    act();
  }

  function listenToSelects() {
    for (const name of ["first", "second", "measure"]) {
      byId(name).addEventListener("change", (event) => {
        state[name] = Number(event.target.value);
        showOrders();
        refresh(true);
      });
    }
    byId("order").addEventListener("change", (event) => {
      state.order = event.target.value;
      refresh();
    });
    byId("filters").addEventListener("change", (event) => {
      state.filter = event.target.value;
      refresh();
    });
  }

  function listen() {
    listenToSelects();
    byId("search").addEventListener("input", debounced(search, SEARCH_DELAY));
    byId("export").addEventListener("click", exportRows);
    byId("list").addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (!row) return;
      choose(Number(row.dataset.place));
      if (PHONE.matches) openSample();
    });
    byId("page-back").addEventListener("click", () => choose((pageOf(state.at) - 1) * PAGE_ROWS));
    byId("page-on").addEventListener("click", () => choose((pageOf(state.at) + 1) * PAGE_ROWS));
    byId("help-button").addEventListener("click", () => byId("help").showModal());
    byId("help-close").addEventListener("click", () => byId("help").close());
    document.addEventListener("keydown", actOnKey);
  }

  const haystacks = samples.map(haystackOf);
  makeFilters();
  showSelects();
  listen();
  refresh();
  byId("controls").hidden = false;
  byId("browser").hidden = false;
  performance.mark("inspector-ready");
  document.documentElement.dataset.inspector = "ready";
})();
