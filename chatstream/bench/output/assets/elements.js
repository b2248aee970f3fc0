// Elements of the page. All text gets in as text; nothing here parses markup.

// An element: its attributes, then what is in it, as text or elements; null is nothing.
function el(name, attributes = {}, ...inside) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(
    ...inside
      .flat(Infinity)
      .filter((each) => each !== null && each !== undefined && each !== false),
  );
  return element;
}

function foreign(text) {
  return el("span", { class: "foreign" }, inert(String(text)));
}

function table({ caption, head, rows }, attributes = {}) {
  return el(
    "table",
    attributes,
    el("caption", {}, caption),
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        head.map((text) => el("th", { scope: "col", class: cellClass(text) }, inert(text))),
      ),
    ),
    el(
      "tbody",
      {},
      rows.map((row) =>
        el(
          "tr",
          {},
          row.map((cell, place) =>
            place === 0
              ? el("th", { scope: "row" }, inertCell(cell))
              : el("td", { class: cellClass(head[place]) }, inertCell(cell)),
          ),
        ),
      ),
    ),
  );
}

const WORDY = new Set([
  "told by",
  "model",
  "outcome",
  "error",
  "what happened",
  "host",
  "formula",
  "also called",
  "goal",
  "metric",
]);

function cellClass(head) {
  return WORDY.has(head) ? "words" : null;
}

function inertCell(cell) {
  return typeof cell === "string" ? inert(cell) : cell;
}

// What may be wider than a phone, reachable and scrollable by keyboard.
function scrolling(label, inside, changes = "") {
  return el(
    "div",
    { class: `scroll ${changes}`, role: "region", "aria-label": label, tabindex: "0" },
    inside,
  );
}
