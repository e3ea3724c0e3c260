// Keys, clicks and choices; at the end everything begins.

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
