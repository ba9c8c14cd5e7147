// The treemap: d3-hierarchy divides the area, a canvas shows it.

const HEADER = 17; // pixels, of a module's title
const ROOM = { width: 46, height: 40 }; // below it, a module has no title

/** Nest rows by module; a module with nothing but one module in it is drawn as one, `a.b`. */
function nest(rows, path) {
  const group = (label, at) => ({ label, path: at, groups: new Map(), children: [] });
  const root = group("", path);
  for (const row of rows) {
    if (!row.it.bytes) continue;
    let here = root;
    for (const part of row.parts.slice(path.length, -1)) {
      let next = here.groups.get(part);
      if (!next) {
        next = group(part, [...here.path, part]);
        here.groups.set(part, next);
        here.children.push(next);
      }
      here = next;
    }
    here.children.push({ row, label: row.parts.at(-1) });
  }
  root.children.forEach(collapse);
  return root;
}

function collapse(node) {
  while (node.groups?.size === 1 && node.children.length === 1) {
    const [only] = node.children;
    Object.assign(node, only, { label: `${node.label}.${only.label}` });
  }
  node.children?.forEach(collapse);
}

/** The words for a tile, outermost first: its own, and those of the modules that have no title. */
function wordsOf(node) {
  const words = [node.data.label];
  for (let module = node.parent; module?.depth && !module.titled; module = module.parent) {
    words.unshift(module.data.label);
  }
  return words;
}

/** As many of the words as fit: `mlp.gate_proj.weight`, else `gate_proj.weight`, else `gate_proj`. */
function fitting(words, room) {
  const parts = words.join(".").split(".");
  const own = parts.length > 1 ? parts.slice(-2) : parts;
  const tries = [parts.join("."), own.join("."), own[0]];
  return tries.find((text) => visible(text).length <= room) ?? own[0];
}

class Treemap {
  constructor(box, events) {
    this.box = box;
    this.canvas = find("canvas", box);
    this.events = events;
    this.cursor = null;
    this.byRow = new Map();
    box.addEventListener("pointermove", (event) => this.#point(event));
    box.addEventListener("pointerleave", () => this.#over(null));
    box.addEventListener("click", (event) => this.#press(event));
    box.addEventListener("dblclick", () => this.#enter());
    box.addEventListener("keydown", (event) => this.#key(event));
    box.addEventListener("focus", () => {
      if (box.matches(":focus-visible")) this.#move(this.cursor ?? this.root);
    });
    box.addEventListener("blur", () => this.#over(null));
    new ResizeObserver(() => this.root && this.#layout()).observe(box);
  }

  show(rows, path, colours, palette) {
    Object.assign(this, { path, colours, palette, cursor: null });
    this.root = d3.hierarchy(nest(rows, path))
      .sum((node) => (node.row ? node.row.it.bytes : 0))
      .sort((one, other) => other.value - one.value);
    this.byRow = new Map(this.root.leaves().map((leaf) => [leaf.data.row, leaf]));
    this.byRow.delete(undefined);
    const nothing = find(".nothing", this.box);
    nothing.hidden = this.root.value > 0;
    nothing.textContent = rows.length ? "No bytes to show" : "No variable matches";
    this.#describe(this.root);
    this.#layout();
  }

  repaint(colours, palette) {
    Object.assign(this, { colours, palette });
    this.#paint();
  }

  /** Outline the tile of a row: "over" or "chosen". */
  outline(kind, row) {
    if (kind === "chosen") this.chosen = row;
    this.#place(kind, row ? this.byRow.get(row) : null);
  }

  #layout() {
    const { clientWidth: width, clientHeight: height } = this.box;
    const titled = (node) =>
      node.depth > 0 && node.x1 - node.x0 > ROOM.width && node.y1 - node.y0 > ROOM.height;
    if (this.root.value > 0) {
      d3.treemap()
        .size([width, height])
        .paddingInner((node) => (node.depth ? 1 : 3))
        .paddingTop((node) => (titled(node) ? HEADER : 0))
        .paddingLeft((node) => (titled(node) ? 2 : 0))
        .paddingRight((node) => (titled(node) ? 2 : 0))
        .paddingBottom((node) => (titled(node) ? 2 : 0))(this.root);
      this.root.each((node) => { node.titled = titled(node); });
    }
    this.#paint();
    this.events.laidOut();
  }

  #paint() {
    const { clientWidth: width, clientHeight: height } = this.box;
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.direction = "ltr";
    pen.textBaseline = "middle";
    const { code } = this.palette;
    this.fonts = { leaf: `12px ${code}`, title: `500 11.5px ${code}`, small: `11px ${code}` };
    if (!(this.root.value > 0)) return;
    this.root.each((node) => (node.data.row ? this.#tile(pen, node) : this.#frame(pen, node)));
  }

  #frame(pen, node) {
    if (!node.titled) return;
    const { x0, y0, x1, y1 } = node;
    pen.fillStyle = node.depth % 2 ? this.palette.wash : this.palette.panel;
    pen.fillRect(x0, y0, x1 - x0, y1 - y0);
    pen.strokeStyle = this.palette.line;
    pen.lineWidth = 1;
    pen.strokeRect(x0 + 0.5, y0 + 0.5, x1 - x0 - 1, y1 - y0 - 1);
    pen.font = this.fonts.title;
    const room = x1 - x0 - 10;
    const used = this.#write(pen, node.data.label, x0 + 5, y0 + 9.5, room, this.palette.ink);
    const size = bytes(node.value);
    pen.font = this.fonts.small;
    const wide = pen.measureText(size).width;
    if (room - used > wide + 12) {
      pen.fillStyle = this.palette.soft;
      pen.fillText(size, x1 - 5 - wide, y0 + 9.5);
    }
  }

  #tile(pen, node) {
    const { x0, y0, x1, y1, value, data } = node;
    const labels = wordsOf(node);
    const [width, height] = [x1 - x0, y1 - y0];
    const { colour, ink } = this.colours.of(data.row).fill;
    pen.fillStyle = colour;
    pen.fillRect(x0, y0, Math.max(width, 0.5), Math.max(height, 0.5));
    if (width < 26 || height < 15) return;
    const sign = { added: "+ ", removed: "− ", changed: "~ " }[data.row.text.change] ?? "";
    pen.font = this.fonts.leaf;
    const two = height > 36 && width > 60;
    const middle = two ? 12 : Math.min(height / 2, 12);
    const words = sign + fitting(labels, (width - 8) / pen.measureText("0").width - sign.length);
    this.#write(pen, words, x0 + 5, y0 + middle, width - 8, ink);
    if (!two) return;
    pen.font = this.fonts.small;
    this.#write(pen, bytes(value), x0 + 5, y0 + 27, width - 8, ink);
  }

  /** Write what fits, an ellipsis for the rest; the font has one width. Returns the width used. */
  #write(pen, words, x, y, room, colour) {
    const text = visible(words.slice(0, 200));
    const fits = Math.floor(room / pen.measureText("0").width);
    if (fits < 2) return room;
    const shown = text.length > fits ? `${text.slice(0, fits - 1)}…` : text;
    pen.fillStyle = colour;
    pen.fillText(shown, x, y);
    return pen.measureText(shown).width;
  }

  #at(event) {
    if (!(this.root?.value > 0)) return null;
    const { left, top } = this.box.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    const holds = (node) => x >= node.x0 && x < node.x1 && y >= node.y0 && y < node.y1;
    let here = this.root;
    for (let next = here; next; next = here.children?.find(holds)) here = next;
    return here === this.root ? null : here;
  }

  #point(event) {
    const node = this.#at(event);
    this.box.style.cursor = node ? "pointer" : "default";
    this.#over(node, event.clientX, event.clientY);
  }

  #press(event) {
    if (event.detail > 1) return; // the second press of two, see #enter
    const node = this.#at(event);
    this.pressed = node;
    if (node?.data.row) this.events.select(node.data.row);
    else if (node) this.events.open(node.data.path);
  }

  /** Two presses on a tile open the outermost module around it; on a title, they are one. */
  #enter() {
    const outer = this.pressed?.data.row ? this.pressed.ancestors().at(-2) : null;
    if (outer?.children) this.events.open(outer.data.path);
  }

  #over(node, x, y) {
    this.#place("over", node);
    this.events.over(node, x, y);
  }

  #place(kind, node) {
    const outline = find(`.${kind}`, this.box);
    outline.hidden = !node || node.x0 === undefined;
    if (outline.hidden) return;
    outline.style.transform = `translate(${node.x0}px, ${node.y0}px)`;
    outline.style.width = `${Math.max(node.x1 - node.x0, 4)}px`;
    outline.style.height = `${Math.max(node.y1 - node.y0, 4)}px`;
  }

  /** Arrows go to siblings, in and out; Enter opens a module or selects a variable. */
  #key(event) {
    const here = this.cursor ?? this.root;
    const siblings = here.parent?.children ?? [here];
    const at = siblings.indexOf(here);
    const steps = {
      ArrowRight: () => siblings[at + 1] ?? here,
      ArrowLeft: () => siblings[at - 1] ?? here,
      ArrowDown: () => here.children?.[0] ?? here,
      ArrowUp: () => here.parent ?? here,
      Home: () => siblings[0],
      End: () => siblings.at(-1),
    };
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (steps[event.key]) this.#move(steps[event.key]());
    else if (event.key === "Enter" && here.data.row) this.events.select(here.data.row);
    else if (event.key === "Enter" && here !== this.root) this.events.open(here.data.path);
    else if (event.key === "Backspace" && this.path.length) this.events.open(this.path.slice(0, -1));
    else return;
    event.preventDefault();
    if (event.key === "Enter" || event.key === "Backspace") this.#move(this.cursor ?? this.root);
  }

  #move(node) {
    if (!(this.root?.value > 0)) return;
    this.cursor = node;
    this.#describe(node);
    const { left, top } = this.box.getBoundingClientRect();
    this.#over(node, left + (node.x0 + node.x1) / 2, top + Math.min(node.y0 + 30, node.y1));
  }

  /** Tell a screen reader what the arrows are on. */
  #describe(node) {
    const siblings = node.parent?.children ?? [node];
    const item = find("#cursor", this.box);
    item.textContent = `${visible(node.data.label) || "all modules"}, ${bytes(node.value)}`;
    item.setAttribute("aria-level", node.depth + 1);
    item.setAttribute("aria-setsize", siblings.length);
    item.setAttribute("aria-posinset", siblings.indexOf(node) + 1);
    item.setAttribute("aria-selected", node.data.row !== undefined && node.data.row === this.chosen);
  }
}
