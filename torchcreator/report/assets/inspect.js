// The page: what is chosen, and what follows from it.
//
// One set of rows is in sight: those that match the search, lie in the module in sight, and have
// the values chosen in the legend. The treemap and the table both show that set.

const documents = JSON.parse(find("#documents").textContent);
const { rows: every, columns, folded } = readVariables(documents);
let rows = folded ?? every; // those that are looked at: repeated blocks are one, or not
const compared = documents.before !== null;
const byId = new Map(columns.map((column) => [column.id, column]));
const total = rows.reduce((sum, row) => sum + row.it.bytes, 0);
const MODULE = { id: "module", title: "Module" };
const colourings = [
  ...columns.filter(({ id }) => id === "change"),
  MODULE,
  ...columns.filter(({ id }) => id !== "name" && id !== "change"),
];

const state = {
  query: "",
  path: [],
  chosen: new Map(), // column -> the values that are let through
  colour: colourings.find(({ id }) => id === firstColour()),
  sort: null,
  selected: null,
  every: false, // columns that say the same of every variable, too
};
let palette = readPalette();
let colours;
let inSight = [];

function firstColour() {
  if (compared) return "change";
  const told = (id) => rows.some((row) => row.text[id] !== byId.get(id).plain);
  return ["creators", "trainable", "constraint"].find(told) ?? "module_type";
}

const treemap = new Treemap(find("#treemap"), {
  open,
  select,
  laidOut: () => treemap.outline("chosen", state.selected),
  over(node, x, y) {
    const { colour } = state;
    const shown = (row) => {
      const old = row.old[colour.id];
      const now = colours.of(row).word;
      return old === undefined || colour.bin ? [now] : change(old, row.text[colour.id]);
    };
    drawTooltip(find("#tooltip"), node, { title: colour.title, shown }, total, [x, y]);
    table.mark({ over: node?.data.row ?? null });
  },
});

const table = new Table(find("#scroller"), {
  select,
  sort(id) {
    const next = { 0: 1, 1: -1, [-1]: 0 }[state.sort?.id === id ? state.sort.direction : 0];
    state.sort = next ? { id, direction: next } : null; // the third time: the model's own order
    arrangeTable();
    showTable();
  },
  over: (row) => {
    treemap.outline("over", row);
    table.mark({ over: row });
  },
});

// What follows from the state

/** Colours go by what is in the module in sight, so that filters do not repaint. */
function colourOf() {
  const { path, colour } = state;
  return colourRows(rows.filter((row) => inside(row, path)), colour, path, palette);
}

/** Rows that match all but the choices of one column, for that column's own counts. */
function matching(except) {
  const matches = matcher(state.query, columns);
  const choices = [...state.chosen].filter(([id]) => id !== except);
  return rows.filter((row) => inside(row, state.path) && matches(row)
    && choices.every(([id, { column, values, path }]) => values.has(valueOf(row, column, path))));
}

function update() {
  colours = colourOf();
  inSight = matching(null);
  treemap.show(inSight, state.path, colours, palette);
  showTable();
  showLegend();
  showPath();
  showChanges();
  showFilters();
  showSummary();
}

function showTable() {
  const { id, direction } = state.sort ?? {};
  table.show(sorted(inSight, byId.get(id), direction), colours);
}

function tally(some, keyOf) {
  const tallies = new Map();
  for (const row of some) {
    const sum = tallies.get(keyOf(row)) ?? { rows: 0, size: 0 };
    tallies.set(keyOf(row), { rows: sum.rows + variablesIn([row]), size: sum.size + row.it.bytes });
  }
  return tallies;
}

function showLegend() {
  const { colour } = state;
  const isChosen = (entry) =>
    entry.values.every((value) => state.chosen.get(colour.id)?.values.has(value));
  const tallies = tally(matching(colour.id), colours.of);
  drawLegend(find("#legend"), colours.entries, tallies, isChosen,
    (entry) => choose(colour, entry, !isChosen(entry)));
}

function showPath() {
  const steps = [documents.after.model.split(/[.:]/).at(-1), ...state.path];
  find("#path").replaceChildren(...steps.map((step, at) => element("li", {},
    at === steps.length - 1
      ? element("b", { "aria-current": "location" }, visible(step))
      : element("button",
        { type: "button", onclick: () => open(state.path.slice(0, at)) }, visible(step)))));
}

function showChanges() {
  if (!compared) return;
  const tallies = tally(matching("change"), (row) => row.text.change);
  const column = byId.get("change");
  const chosen = state.chosen.get("change")?.values ?? new Set();
  const focused = document.activeElement?.dataset?.change;
  find("#changes").hidden = false;
  find("#changes").replaceChildren(...CHANGES.map((kind) => {
    const button = element("button", {
      type: "button", "aria-pressed": chosen.has(kind),
      onclick: () => choose(column, { values: [kind] }, !chosen.has(kind)),
    }, `${SIGNS[kind]} `, element("b", {}, count(tallies.get(kind)?.rows ?? 0)), ` ${kind}`);
    button.dataset.change = kind;
    return button;
  }));
  if (focused) find(`[data-change="${focused}"]`).focus();
}

function showFilters() {
  const drop = (act) => () => {
    act();
    find("#search").focus();
    update();
  };
  const chips = [...state.chosen].map(([id, { column, values }]) => {
    const words = [...values].slice(0, 3).map((value) => wordOf(value, column)).join(", ");
    const more = values.size > 3 ? ` and ${values.size - 3} more` : "";
    return element("button", {
      type: "button", "aria-label": `Drop the filter ${column.title}: ${words}${more}`,
      onclick: drop(() => state.chosen.delete(id)),
    }, `${column.title}: ${words}${more}`);
  });
  find("#filters").replaceChildren(...chips);
}

function showSummary() {
  const size = inSight.reduce((sum, row) => sum + row.it.bytes, 0);
  const all = inSight.length === rows.length;
  find("#summary").replaceChildren(
    element("b", {}, all ? "All" : count(variablesIn(inSight))), ` of ${plural(every.length, "variable")}, `,
    element("b", {}, bytes(size)), all ? "" : ` of ${bytes(total)}`);
}

// What people do

function choose(column, { values }, wanted) {
  const chosen = new Set(state.chosen.get(column.id)?.values);
  for (const value of values) chosen[wanted ? "add" : "delete"](value);
  if (chosen.size) state.chosen.set(column.id, { column, values: chosen, path: state.path });
  else state.chosen.delete(column.id);
  update();
}

function open(path) {
  state.path = path;
  state.chosen.delete("module"); // its values are those of the module that was in sight
  update();
}

function select(row) {
  state.selected = row;
  treemap.outline("chosen", row);
  table.mark({ selected: row });
  if (row) table.reveal(row);
  drawDetails(find("#details"), row, columns, total, () => {
    select(null);
    find("#scroller").focus({ preventScroll: true });
  });
}

function clear() {
  if (state.selected) return select(null);
  if (!state.query && !state.chosen.size && !state.path.length) return;
  Object.assign(state, { query: "", path: [] });
  state.chosen.clear();
  find("#search").value = "";
  update();
}

// What stands still

function arrangeTable() {
  const differs = ({ id }) =>
    rows.some((row) => row.text[id] !== rows[0].text[id] || row.old[id] !== undefined);
  const known = columns.filter(({ id }) => id !== "blocks" || rows === folded);
  const same = rows.length ? known.filter((it) => it.id !== "name" && !differs(it)) : [];
  const shown = known.filter((column) => state.every || !same.includes(column));
  const words = same.map(({ id, title }) =>
    element("span", {}, `${title} `, element("b", {}, visible(rows[0].text[id]) || "none")));
  find("#same").hidden = !same.length;
  find("#same").replaceChildren(
    ...(state.every ? [] : ["The same for all: ", ...words]),
    element("button", {
      type: "button", "aria-pressed": state.every,
      onclick() {
        state.every = !state.every;
        arrangeTable();
        showTable();
        find("#same button").focus();
      },
    }, state.every ? "Only columns that differ" : "All columns"));
  table.arrange(shown, widths, state.sort);
}

/** Repeated blocks are one row each, or every variable has its own. */
function fold(wanted) {
  rows = wanted ? folded : every;
  state.path = [];
  state.chosen.delete("module");
  find("#fold").setAttribute("aria-pressed", wanted);
  measure();
  arrangeTable();
  update();
  select(null);
}

function showTheme() {
  const set = document.documentElement.dataset.theme;
  const dark = set ? set === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  find("#theme").textContent = dark ? "◑ Light" : "◐ Dark";
  find("#theme").setAttribute("aria-label", `Change to ${dark ? "light" : "dark"} colours`);
  find("#theme").onclick = () => {
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    repaint();
  };
}

function repaint() {
  palette = readPalette();
  showTheme();
  colours = colourOf();
  treemap.repaint(colours, palette);
  table.repaint(colours);
  showLegend();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.matches("input, select");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    find("#search").focus();
    find("#search").select();
  } else if (event.key === "Escape") clear();
});

let waiting = 0;
find("#search").addEventListener("input", (event) => {
  state.query = event.target.value;
  cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(update); // once per frame, however fast one types
});
find("#colour").replaceChildren(...colourings.map(({ id, title }) =>
  element("option", { value: id, selected: id === state.colour.id }, title)));
find("#colour").addEventListener("change", (event) => {
  state.colour = colourings.find(({ id }) => id === event.target.value);
  repaint();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);

const pen = document.createElement("canvas").getContext("2d");
let widths;
function measure() {
  widths = new Map(columns.map((column) => [column.id, widthOf(column, rows, palette, pen)]));
}
find("#fold").hidden = !folded;
find("#fold").addEventListener("click", () => fold(rows === every));
measure();
drawHeader(documents);
showTheme();
arrangeTable();
update();
select(null);
