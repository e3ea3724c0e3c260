// Which samples are shown and in what order: search, filter and sort, and the controls for them.

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

// ---- the controls ------------------------------------------------------------------------------------------------

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
