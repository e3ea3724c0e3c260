// What the page holds and what is chosen of it; values of samples, and how they are written.

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

// ---- values ------------------------------------------------------------------------------------------------------

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
