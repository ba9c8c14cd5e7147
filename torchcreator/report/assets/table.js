// The table. Only the rows in sight are in the page: a thousand scroll like ten.

const ROW = 28; // pixels; inspect.css says the same
const MORE = 6; // rows kept above and below those in sight

/** The width of a column: that of its longest text, within reason. */
function widthOf(column, rows, palette, pen) {
  const { id, title } = column;
  const shown = (row) => {
    const text = id === "change" ? `= ${row.text.change}` : row.text[id];
    return row.old[id] === undefined ? text : `${row.old[id] || "—"} → ${text || "—"}`;
  };
  const longest = rows.map(shown).reduce((one, other) => (other.length > one.length ? other : one), "");
  pen.font = `13px ${id === "name" ? palette.code : palette.text}`;
  const width = pen.measureText(visible(longest.slice(0, 99))).width * 1.08; // what is new is bold
  if (id === "name") return Math.ceil(Math.min(Math.max(width + 40, 180), 420));
  pen.font = `600 13px ${palette.text}`;
  return Math.ceil(Math.min(Math.max(width, pen.measureText(`${title} ↓`).width) + 22, 280));
}

class Table {
  constructor(scroller, events) {
    this.scroller = scroller;
    this.head = find("thead tr", scroller);
    this.body = find("tbody", scroller);
    this.events = events;
    this.rows = [];
    this.cursor = -1;
    this.beyond = find("#beyond");
    this.beyond.addEventListener("click", () => { scroller.scrollLeft += scroller.clientWidth / 2; });
    scroller.addEventListener("scroll", () => { this.#draw(); this.#hint(); });
    scroller.addEventListener("keydown", (event) => this.#key(event));
    scroller.addEventListener("click", (event) => this.#press(event));
    scroller.addEventListener("pointerover", (event) => events.over(this.#rowOf(event)));
    scroller.addEventListener("pointerleave", () => events.over(null));
    new ResizeObserver(() => { this.#draw(); this.#hint(); }).observe(scroller);
  }

  /** Show these columns, each as wide as its longest text within reason. */
  arrange(columns, widths, sort) {
    const focused = document.activeElement?.dataset?.column;
    this.columns = columns;
    const others = columns.reduce((sum, { id }) => sum + (id === "name" ? 0 : widths.get(id)), 0);
    find("colgroup", this.scroller).replaceChildren(...columns.map(({ id }) => {
      const column = element("col");
      if (id !== "name") column.style.width = `${widths.get(id)}px`;
      return column;
    }));
    find("table", this.scroller).style.minWidth = `calc(${others}px + min(${widths.get("name")}px, 60vw))`;
    this.head.replaceChildren(...columns.map((column, at) => this.#title(column, at, sort)));
    this.scroller.setAttribute("aria-colcount", columns.length);
    if (focused) find(`[data-column="${CSS.escape(focused)}"]`, this.head)?.focus();
    this.#hint();
  }

  /** Say how many columns lie beyond the right edge. */
  #hint() {
    const edge = this.scroller.getBoundingClientRect().left + this.scroller.clientWidth;
    const cut = [...this.head.children].filter((cell) => cell.getBoundingClientRect().right > edge + 8);
    this.beyond.hidden = !cut.length;
    this.beyond.textContent = `${plural(cut.length, "more column")} →`;
  }

  show(rows, colours) {
    const held = this.rows[this.cursor];
    Object.assign(this, { rows, colours, cursor: held ? rows.indexOf(held) : -1 });
    this.scroller.setAttribute("aria-rowcount", rows.length + 1);
    this.#draw(true);
  }

  repaint(colours) {
    this.colours = colours;
    this.#draw(true);
  }

  /** Mark rows: `selected` for good, `over` as long as a tile is pointed at. */
  mark({ selected = this.selected, over = this.over }) {
    Object.assign(this, { selected, over });
    for (const line of this.body.querySelectorAll("[data-row]")) this.#dress(line);
  }

  reveal(row) {
    const at = this.rows.indexOf(row);
    if (at < 0) return;
    this.cursor = at;
    this.#scrollTo(at);
    this.#draw(true);
  }

  #title(column, at, sort) {
    const direction = sort?.id === column.id ? sort.direction : 0;
    const button = element("button", {
      type: "button", tabIndex: at ? -1 : 0, title: `Sort by ${column.title}`,
      onclick: () => this.events.sort(column.id),
    }, column.title);
    button.dataset.column = column.id;
    const cell = element("th", { role: "columnheader", className: this.#kind(column) }, button);
    if (direction) cell.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    return cell;
  }

  #kind({ id, amount }) {
    if (id === "name") return "cell-name";
    return amount && id !== "shape" ? "number" : "";
  }

  #scrollTo(at) {
    const { scrollTop, clientHeight } = this.scroller;
    const room = clientHeight - this.head.offsetHeight;
    if (at * ROW < scrollTop) this.scroller.scrollTop = at * ROW;
    else if ((at + 1) * ROW > scrollTop + room) this.scroller.scrollTop = (at + 1) * ROW - room;
  }

  #draw(anew = false) {
    if (!this.columns) return;
    const { scrollTop, clientHeight } = this.scroller;
    const first = Math.max(0, Math.min(Math.floor(scrollTop / ROW), this.rows.length - 1) - MORE);
    const last = Math.min(this.rows.length, Math.ceil((scrollTop + clientHeight) / ROW) + MORE);
    if (!anew && first === this.first && last === this.last) return;
    Object.assign(this, { first, last });
    const lines = this.rows.slice(first, last).map((row, at) => this.#line(row, first + at));
    this.body.replaceChildren(
      this.#space(first), ...lines, this.#space(Math.max(0, this.rows.length - last)),
    );
    this.#announce();
  }

  #space(rows) {
    const space = element("tr", { className: "space", role: "none" }, element("td", { role: "none" }));
    space.style.height = `${rows * ROW}px`;
    return space;
  }

  #line(row, at) {
    const cells = this.columns.map((column) => this.#cell(row, column));
    const line = element("tr", { role: "row", id: `row-${at}`, "aria-rowindex": at + 2 }, ...cells);
    line.dataset.row = at;
    this.#dress(line);
    return line;
  }

  #dress(line) {
    const at = Number(line.dataset.row);
    const row = this.rows[at];
    line.className = row.text.change ?? "";
    line.classList.toggle("cursor", at === this.cursor);
    line.classList.toggle("over", row === this.over);
    line.setAttribute("aria-selected", row === this.selected);
  }

  #cell(row, column) {
    const { id, plain } = column;
    const cell = element("td", { role: "gridcell", className: this.#kind(column) });
    if (id === "name") cell.append(this.#name(row));
    else if (row.old[id] !== undefined) cell.append(...change(row.old[id], row.text[id]));
    else cell.append(id === "change" ? wordOf(row.text[id], column) : visible(row.text[id]) || "—");
    if (row.text[id] === plain && row.old[id] === undefined) cell.classList.add("plain");
    return cell;
  }

  #name(row) {
    const leaf = row.parts.at(-1);
    const owner = row.text.name.slice(0, row.text.name.length - leaf.length);
    const swatch = element("span", { className: "swatch" });
    swatch.style.setProperty("--fill", this.colours.of(row).fill.colour);
    return element("div", { title: visible(row.text.name) }, swatch,
      owner ? element("span", { className: "owner" }, element("bdi", {}, visible(owner))) : null,
      element("span", { className: "leaf" }, visible(leaf)));
  }

  #rowOf(event) {
    const line = event.target.closest("[data-row]");
    return line ? this.rows[Number(line.dataset.row)] : null;
  }

  #press(event) {
    const row = this.#rowOf(event);
    if (row) this.#go(this.rows.indexOf(row), true);
  }

  #go(at, select) {
    this.cursor = Math.max(0, Math.min(at, this.rows.length - 1));
    this.#scrollTo(this.cursor);
    this.#draw(true);
    this.events.over(this.rows[this.cursor]);
    if (select) this.events.select(this.rows[this.cursor]);
  }

  #announce() {
    const seen = this.cursor >= this.first && this.cursor < this.last;
    if (seen) this.scroller.setAttribute("aria-activedescendant", `row-${this.cursor}`);
    else this.scroller.removeAttribute("aria-activedescendant");
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.target !== this.scroller) return this.#keyOnTitle(event);
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / ROW) - 2);
    const steps = {
      ArrowDown: this.cursor + 1, ArrowUp: this.cursor - 1, Home: 0, End: this.rows.length - 1,
      PageDown: this.cursor + page, PageUp: this.cursor - page,
    };
    if (!this.rows.length) return;
    if (event.key in steps) this.#go(steps[event.key], false);
    else if (event.key === "Enter" && this.cursor >= 0) this.#go(this.cursor, true);
    else return;
    event.preventDefault();
  }

  /** One title is in the tab order; left and right go to the others. */
  #keyOnTitle(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const titles = [...this.head.querySelectorAll("button")];
    const next = step && titles[titles.indexOf(event.target) + step];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
    event.preventDefault();
  }
}
