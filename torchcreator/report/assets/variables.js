// The variables of one document, or of two matched by name, and what a column says of each.

const yes = (truth) => (truth ? "yes" : "no");
const CHANGES = ["added", "removed", "changed", "unchanged"];
const SIGNS = { added: "+", removed: "−", changed: "~", unchanged: "=" };

/**
 * What columns show: `plain` is the text that needs no attention, `amount` the number to sort by.
 * A difference in a `loose` column alone, in how a variable came about, is no change of it.
 */
const COLUMNS = [
  { id: "name", title: "Name", text: (it) => it.name },
  { id: "module_type", title: "Module type", text: (it) => it.module_type },
  {
    id: "shape",
    title: "Shape",
    text: (it) => (it.shape === null ? "not yet known" : it.shape.join(" × ") || "scalar"),
    amount: (it) => it.elements,
  },
  { id: "dtype", title: "Dtype", text: (it) => it.dtype },
  { id: "device", title: "Device", text: (it) => it.device },
  amounts("bytes", "Bytes", bytes, bytes, 1024),
  { id: "trainable", title: "Trainable", text: (it) => yes(it.trainable), plain: "yes" },
  { id: "constraint", title: "Constraint", text: (it) => it.constraint ?? "", plain: "" },
  { id: "synchronization", title: "Synchronization", text: (it) => it.synchronization, plain: "AUTO" },
  { id: "aggregation", title: "Aggregation", text: (it) => it.aggregation, plain: "NONE" },
  {
    id: "creators",
    title: "Creators",
    text: (it) => it.creators.map((one) => one.creator).join(", "),
    plain: "",
    loose: true,
  },
  { id: "ties", title: "Tied to", text: (it) => it.ties.join(", "), plain: "" },
  { id: "declared", title: "Declared", text: (it) => yes(it.declared), plain: "no", loose: true },
  amounts("elements", "Elements", count, elements, 1000),
];

/** How many repeated blocks a row stands for. */
const BLOCKS = {
  id: "blocks",
  title: "Blocks",
  text: ({ blocks }) => (blocks ? `${count(blocks)} ×` : ""),
  amount: ({ blocks }) => blocks ?? 1,
  plain: "",
};
const variablesIn = (rows) => rows.reduce((sum, { it }) => sum + (it.blocks ?? 1), 0);

/** Columns of models that are sharded: how, and how much of it one process holds. */
const SHARDED = [
  { id: "placements", title: "Placements", text: (it) => it.placements ?? "", plain: "" },
  amounts("local_bytes", "Local bytes", bytes, bytes, 1024),
];

/** A column of numbers, coloured in bins: below 1 KiB, below 32 KiB, and so on. */
function amounts(id, title, text, short, base) {
  const limits = [0, 1, 2, 3, 4].flatMap((power) => [base ** power, 32 * base ** power]).slice(2);
  const bin = (it) => limits.findIndex((limit) => it[id] < limit);
  const word = (at) =>
    at < 0 ? `${short(limits.at(-1))} and more` : `below ${short(limits[at])}`;
  return { id, title, text: (it) => text(it[id]), amount: (it) => it[id], bin, word };
}

/** A column for every tag that any variable has. */
function tagColumns(all) {
  const names = [...new Set(all.flatMap((it) => Object.keys(it.tags)))].sort();
  return names.map((name) => ({
    id: `tag:${name}`,
    title: `Tag ${visible(name)}`,
    text: (it) => (Object.hasOwn(it.tags, name) ? String(it.tags[name]) : ""),
    plain: "",
  }));
}

/** Where a variable stands in the tree of modules: ["encoder", "0", "weight"]. */
function partsOf({ name, module }) {
  if (module === "") return [name];
  const own = name.startsWith(`${module}.`) ? name.slice(module.length + 1) : name;
  return [...module.split("."), own];
}

function readVariables({ after, before, folds }) {
  const all = [...after.variables, ...(before ? before.variables : [])];
  const sharded = all.some((it) => it.placements) ? SHARDED : [];
  const columns = [...COLUMNS, ...sharded, ...tagColumns(all)];
  if (before) {
    columns.splice(1, 0, { id: "change", title: "Change", plain: "unchanged" });
    columns.push({ id: "what", title: "What changed", plain: "" });
  }
  if (folds) columns.splice(1, 0, BLOCKS);
  const earlier = new Map((before ? before.variables : []).map((it) => [it.name, it]));
  const pairs = after.variables.map((it) => [it, earlier.get(it.name) ?? null]);
  const kept = new Set(after.variables.map((it) => it.name));
  for (const it of earlier.values()) if (!kept.has(it.name)) pairs.push([null, it]);
  const rows = pairs.map(([now, was]) => readRow(now, was, columns, before));
  return { rows, columns, folded: folds?.map((fold) => foldRow(fold, rows, columns)) };
}

/** What all blocks of a repeated kind have is one row, as large as they are together. */
function foldRow([name, at], rows, columns) {
  const all = at.map((position) => rows[position]);
  const [first] = all;
  if (all.length === 1) return first;
  const sum = (key) => all.reduce((total, { it }) => total + it[key], 0);
  const sums = { bytes: sum("bytes"), elements: sum("elements"), local_bytes: sum("local_bytes") };
  const module = name.slice(0, -first.parts.at(-1).length - 1);
  const row = readRow({ ...first.it, ...sums, name, module, blocks: at.length }, null, columns, null);
  row.words += `\n${all.map(({ it }) => it.name.toLowerCase()).join("\n")}`; // each is found by its own
  return row;
}

/** One line of the table: the texts of the columns now, and before where they differ. */
function readRow(now, was, columns, before) {
  const it = now ?? was;
  const row = { it, parts: partsOf(it), text: {}, old: {}, bins: {} };
  for (const { id, text, bin } of columns) {
    if (!text) continue;
    row.text[id] = text(it);
    if (now && was && text(was) !== row.text[id]) row.old[id] = text(was);
    if (bin) row.bins[id] = bin(it);
  }
  if (before) {
    const changed = columns.filter(({ id, loose }) => !loose && row.old[id] !== undefined);
    row.text.change = !was ? "added" : !now ? "removed" : changed.length ? "changed" : "unchanged";
    const causes = changed.filter(({ bin }) => !bin); // sizes follow from shape and dtype
    row.text.what = causes.map(({ title }) => title.toLowerCase()).join(", ");
  }
  row.words = columns.map(({ id }) => `${row.text[id]}\n${row.old[id] ?? ""}`).join("\n").toLowerCase();
  return row;
}

/** Every word has to occur in a row; `dtype:bfloat` looks into one column. */
function matcher(query, columns) {
  const tests = query.toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const column = columns.findLast(({ id }) => word.startsWith(`${id.toLowerCase()}:`));
    if (!column) return (row) => row.words.includes(word);
    const part = word.slice(column.id.length + 1);
    return ({ text, old }) =>
      `${text[column.id]}\n${old[column.id] ?? ""}`.toLowerCase().includes(part);
  });
  return (row) => tests.every((test) => test(row));
}

const inside = (row, path) =>
  row.parts.length > path.length && path.every((part, at) => row.parts[at] === part);

const collator = new Intl.Collator("en", { numeric: true });

/** Rows in the order of a column, or in the model's own where there is none. */
function sorted(rows, column, direction) {
  if (!column) return rows;
  const { id, amount } = column;
  const compare = amount
    ? (one, other) => amount(one.it) - amount(other.it)
    : (one, other) => collator.compare(one.text[id], other.text[id]);
  return [...rows].sort((one, other) => direction * compare(one, other));
}
