// The name of what was inspected, and its totals, before and after.

function drawHeader({ after, before }) {
  document.title = `${visible(after.model)} · torchcreator inspect`;
  find("#model").replaceChildren(...breakable(after.model));
  const made = visible(`torchcreator ${after.torchcreator}, torch ${after.torch}`);
  const other = before && before.model !== after.model;
  const apart = other ? `, compared with ${visible(before.model)}` : ", before and after";
  find("#versions").textContent = before ? made + apart : made;
  const facts = [
    ["variables", count, (totals) => totals.variables],
    ["elements", elements, (totals) => totals.elements],
    ["bytes", bytes, (totals) => totals.bytes],
    ["trainable", (share) => share, (totals) => percent(totals.trainable_elements, totals.elements)],
  ];
  if (after.totals.buffers) {
    facts.push([plural(after.totals.buffers, "buffer"), bytes, (totals) => totals.buffer_bytes ?? 0]);
  }
  find("#totals").replaceChildren(...facts.map(([title, write, read]) => {
    const [is, was] = [read(after.totals), before ? read(before.totals) : null];
    const old = was !== null && was !== is ? `${write(was)} → ` : "";
    return element("div", {}, element("dt", {}, title),
      element("dd", {}, element("span", { className: "was" }, old), write(is)));
  }));
}
