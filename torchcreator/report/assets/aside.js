// The legend, the details of a variable, and the tooltip.

function drawLegend(box, entries, tallies, isChosen, press) {
  const whole = [...tallies.values()].reduce((sum, { size }) => sum + size, 0);
  const focused = document.activeElement?.dataset?.entry;
  box.replaceChildren(...entries.map((entry, at) => {
    const { rows, size } = tallies.get(entry) ?? { rows: 0, size: 0 };
    const swatch = element("span", { className: "swatch", "aria-hidden": "true" });
    swatch.style.setProperty("--fill", entry.fill.colour);
    const bar = element("i");
    bar.style.width = `${whole ? (100 * size) / whole : 0}%`;
    const button = element("button",
      {
        type: "button", "aria-pressed": isChosen(entry), onclick: () => press(entry),
        title: `${entry.word}: ${plural(rows, "variable")}, ${bytes(size)}`,
      },
      swatch, element("span", { className: "value" }, entry.word),
      element("span", { className: "amount" }, bytes(size)),
      element("span", { className: "share", "aria-hidden": "true" }, bar));
    button.dataset.entry = at;
    return button;
  }));
  if (focused) find(`[data-entry="${focused}"]`, box)?.focus();
}

function drawDetails(box, row, columns, total, close) {
  if (!row) {
    box.replaceChildren(element("p", { className: "hint" },
      "Select a variable in the treemap or in the table to see all about it."));
    return;
  }
  const facts = columns.filter(({ id }) => id !== "name" && !id.startsWith("tag:"));
  const tags = columns.filter(({ id }) => id.startsWith("tag:") && (row.text[id] || row.old[id]));
  box.replaceChildren(
    element("h2", {}, element("span", { className: "name" }, ...breakable(row.text.name)),
      element("button",
        { type: "button", className: "close", "aria-label": "Close details", onclick: close }, "×")),
    element("dl", {},
      ...facts.flatMap((column) => fact(row, column, column.title)),
      element("dt", {}, "Share"), element("dd", {}, `${percent(row.it.bytes, total)} of all bytes`)),
    ...drawTags(row, tags),
    ...drawCreators(row.it.creators),
  );
}

function fact(row, { id, plain }, title) {
  const old = row.old[id];
  const text = id === "bytes" && row.it.bytes >= 1024
    ? `${row.text.bytes} (${count(row.it.bytes)})` : row.text[id];
  const value = old === undefined ? [visible(text) || "—"] : change(old, row.text[id]);
  const quiet = row.text[id] === plain && old === undefined;
  return [element("dt", {}, title), element("dd", { className: quiet ? "plain" : "" }, ...value)];
}

function drawTags(row, tags) {
  if (!tags.length) return [];
  const facts = tags.flatMap((tag) => fact(row, tag, visible(tag.id.slice("tag:".length))));
  return [element("h3", {}, "Tags"), element("dl", {}, ...facts)];
}

/** What each creator changed, the innermost first, and where its scope was opened. */
function drawCreators(creators) {
  if (!creators.length) return [];
  const item = ({ creator, changed, answered, opened }) => element("li", {},
    element("code", {}, visible(creator)), answered ? " answered itself" : "",
    opened ? element("div", { className: "plain" }, `opened at ${visible(opened)}`) : null,
    ...Object.entries(changed).map(([keyword, [was, is]]) =>
      element("div", {}, `${visible(keyword)}: `, ...change(String(was), String(is)))));
  return [element("h3", {}, "Creators"), element("ul", {}, ...creators.map(item))];
}

/** Show what is under the pointer beside it, inside the window. */
function drawTooltip(box, node, colour, total, [x, y]) {
  box.hidden = !node || x === undefined;
  if (box.hidden) return;
  const { row, path } = node.data;
  const size = `${bytes(node.value)}, ${percent(node.value, total)}`;
  const title = row?.text.name ?? (path.join(".") || "All modules");
  const facts = row
    ? [row.text.module_type, row.text.shape, row.text.dtype, size]
    : [plural(variablesIn(node.leaves().map(({ data }) => data.row)), "variable"), size];
  box.replaceChildren(
    element("p", { className: "name" }, visible(title)),
    element("p", {}, visible(facts.join(" · "))),
    ...(row ? [element("p", {}, `${colour.title}: `, ...colour.shown(row))] : []),
  );
  const { width, height } = box.getBoundingClientRect();
  const left = Math.max(4, Math.min(x + 14, innerWidth - width - 8));
  const top = y + 18 + height > innerHeight ? y - height - 12 : y + 18;
  box.style.transform = `translate(${left}px, ${Math.max(4, top)}px)`;
}
