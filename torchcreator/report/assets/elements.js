// Elements and words. Text reaches the page as text nodes only: names and tags are anyone's.

const find = (selector, root = document) => root.querySelector(selector);

/** Make an element; a property with a dash is set as an attribute, a null child is left out. */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "role" || name.includes("-")) made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// Characters that would reorder or hide their neighbours are shown by their number.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
const visible = (text) =>
  text.replace(UNSEEN, (mark) => `\\u${mark.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** A dotted name that breaks at its dots, if it has to. */
const breakable = (text) =>
  visible(text).split(/(?<=\.)/).flatMap((part) => [part, element("wbr")]).slice(0, -1);

const grouped = new Intl.NumberFormat("en");
const count = (number) => grouped.format(number);
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** Three digits and a unit: 474 MiB. */
function scaled(number, base, units) {
  let power = 0;
  while (number >= base && power < units.length - 1) {
    number /= base;
    power += 1;
  }
  const digits = power === 0 || number >= 100 ? 0 : number >= 10 ? 1 : 2;
  return `${number.toFixed(digits)} ${units[power]}`.trim();
}

const bytes = (number) => scaled(number, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
const elements = (number) => scaled(number, 1000, ["", "k", "M", "B", "T"]);

function percent(part, whole) {
  if (!whole || part === whole) return part ? "100 %" : "0 %";
  const share = (100 * part) / whole;
  if (share < 0.1) return part ? "< 0.1 %" : "0 %";
  return `${share > 99.9 ? "> 99.9" : share.toFixed(1)} %`;
}

/** `before → after`. */
function change(before, after) {
  const [was, is] = [visible(before) || "—", visible(after) || "—"];
  return [element("del", {}, was), " → ", element("ins", {}, is)];
}
