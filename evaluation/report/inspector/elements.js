// Making elements. Posts and summaries are hostile text: text nodes only, never HTML.

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
