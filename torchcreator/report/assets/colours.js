// Which colour a variable has, and what the legend says of it.

const MOST = 7; // categories with a colour of their own; the rest share the neutral one

/** The theme's colours as the browser resolves them, each with the ink that reads best. */
function readPalette() {
  const probe = document.body.appendChild(element("i", { hidden: true }));
  const resolve = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const fill = (name) => {
    const colour = resolve(name);
    const [red, green, blue] = colour.match(/[\d.]+/g).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    const light = 0.2126 * red + 0.7152 * green + 0.0722 * blue; // WCAG 2's relative luminance
    return { colour, ink: light > 0.179 ? "#141413" : "#ffffff" };
  };
  const palette = {
    categories: Array.from({ length: MOST }, (_, at) => fill(`category-${at}`)),
    steps: Array.from({ length: 6 }, (_, at) => fill(`step-${at}`)),
    neutral: fill("neutral"),
    ink: resolve("ink"),
    soft: resolve("soft"),
    line: resolve("line"),
    wash: resolve("wash"),
    panel: resolve("panel"),
    code: getComputedStyle(find("h1")).fontFamily,
    text: getComputedStyle(document.body).fontFamily,
  };
  probe.remove();
  return palette;
}

/** The value by which a column colours a row; "module" is the part below the module in sight. */
function valueOf(row, column, path) {
  if (column.id === "module") {
    return row.parts.length > path.length + 1 ? row.parts[path.length] : "";
  }
  return column.bin ? row.bins[column.id] : row.text[column.id];
}

function wordOf(value, column) {
  if (column.bin) return column.word(value);
  if (value === "") return column.id === "module" ? "(own)" : "(none)";
  return column.id === "change" ? `${SIGNS[value]} ${value}` : visible(value);
}

/**
 * Give every value of a column a colour, the largest first.
 *
 * Returns the entries of the legend, {values, word, fill}, and a function from row to entry.
 */
function colourRows(rows, column, path, palette) {
  const weight = new Map();
  for (const row of rows) {
    const value = valueOf(row, column, path);
    weight.set(value, (weight.get(value) ?? 0) + row.it.bytes);
  }
  const values = [...weight.keys()].sort((one, other) => weight.get(other) - weight.get(one));
  const entries = legendEntries(values, column, palette);
  const entry = new Map(entries.flatMap((one) => one.values.map((value) => [value, one])));
  return { entries, of: (row) => entry.get(valueOf(row, column, path)) };
}

function legendEntries(values, column, palette) {
  const one = (value, fill) => ({ values: [value], word: wordOf(value, column), fill });
  if (column.bin) {
    const bins = values.map((bin) => (bin < 0 ? Infinity : bin)).sort((x, y) => x - y);
    const step = (at) => palette.steps[Math.round((at * 5) / Math.max(bins.length - 1, 1))];
    return bins.map((bin, at) => one(bin === Infinity ? -1 : bin, step(at)));
  }
  if (column.id === "change") {
    const fills = { added: 2, removed: 4, changed: 3 };
    return CHANGES.filter((value) => values.includes(value)).map((value) =>
      one(value, palette.categories[fills[value]] ?? palette.neutral));
  }
  const plain = values.includes(column.plain) ? [column.plain] : [];
  const loud = values.filter((value) => value !== column.plain);
  const rest = loud.length > MOST ? loud.splice(MOST) : [];
  return [
    ...loud.map((value, at) => one(value, palette.categories[at])),
    ...plain.map((value) => one(value, palette.neutral)),
    ...(rest.length
      ? [{ values: rest, word: `${count(rest.length)} others`, fill: palette.neutral }]
      : []),
  ];
}
