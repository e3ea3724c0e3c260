// The list of the samples that are left, page by page, and the one that is read.

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
