// The samples shown as a CSV file.

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
