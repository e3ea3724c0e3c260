// One sample: its summaries side by side, and the post with their sources marked.

function showDetail() {
  const detail = byId("detail");
  if (!state.shown.length) {
    detail.replaceChildren(make("p", "nothing", "No sample matches. Esc clears the search; “All” takes the filter off."));
    return;
  }
  const focused = detail.contains(document.activeElement) ? document.activeElement.dataset.button : undefined;
  const sample = samples[state.shown[state.at]];
  const cards = cardsOf();
  state.source = Math.min(state.source, cards.length - 1);
  const marked = entryOf(sample, cards[state.source]);
  const parts = [makeBar(sample), makeCards(sample, cards), makePost(sample, marked, contenders[cards[state.source]].label)];
  detail.replaceChildren(...parts);
  if (focused !== undefined) focusButton(focused);
}

// The button that stands where the focused one stood; the sample itself where that one is gone or cannot be pressed.
function focusButton(name) {
  const button = byId("detail").querySelector(`[data-button="${name}"]:enabled`);
  (button || byId("detail")).focus({ preventScroll: true });
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
  back.dataset.button = "back";
  previous.dataset.button = "previous";
  next.dataset.button = "next";
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
  button.dataset.button = `sources-${place}`;
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
  state.source = place;
  showDetail();
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
