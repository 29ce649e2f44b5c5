// Tables of many rows: sorted, filtered, and a page of them at a time, so that thousands cost no more than fifty.

import { h, keep, say, show } from "./dom.js";
import { integer } from "./format.js";

const PAGE = 50;

/** Names in the order in which people count; made once, because making it takes longer than comparing. */
const words = new Intl.Collator("en", { numeric: true });

/**
 * A table. Columns: `{ name, title, value(row) to sort by, cell(row) → text or node, class }`; `key(row)`;
 * `sort: { name, down }`. Gives `{ element, update(rows) }`.
 */
export function table({ columns, key, sort, label, empty }) {
  let order = { ...sort },
    page = 0,
    rows = [],
    places = new Map();
  const body = h("tbody");
  const heads = columns.map((column) => {
    const head = h("th", { scope: "col", class: column.class });
    if (column.value) {
      head.append(
        h(
          "button",
          { type: "button", class: "sort", onclick: () => choose(column) },
          column.title,
          h("span", { class: "arrow", "aria-hidden": "true" }),
        ),
      );
    } else head.append(column.title);
    return head;
  });
  const pages = h("span", { class: "muted" });
  const before = h("button", { type: "button", class: "plain", onclick: () => turn(-1) }, "Previous");
  const after = h("button", { type: "button", class: "plain", onclick: () => turn(1) }, "Next");
  const pager = h("nav", { class: "pager", "aria-label": `Pages of ${label}` }, before, pages, after);
  const grid = h(
    "table",
    { class: "grid" },
    h("caption", { class: "hidden" }, label),
    h("thead", {}, h("tr", {}, heads)),
    body,
  );
  const nothing = h("div", { class: "empty", hidden: true });
  const element = h("div", {}, h("div", { class: "scroll" }, grid), nothing, pager);

  function choose(column) {
    order = { name: column.name, down: order.name === column.name ? !order.down : Boolean(column.down) };
    page = 0;
    draw();
  }

  function turn(by) {
    page += by;
    draw();
    element.scrollIntoView({ block: "nearest" });
  }

  function compare(a, b) {
    const column = columns.find((column) => column.name === order.name);
    const [x, y] = [column.value(a), column.value(b)];
    // What is not known comes last, whichever way.
    if (x === null || x === undefined) return y === null || y === undefined ? 0 : 1;
    if (y === null || y === undefined) return -1;
    const sign = typeof x === "number" ? x - y : words.compare(String(x), String(y));
    return order.down ? -sign : sign;
  }

  /** The rows in order. What was in order before is nearly so now, and sorting that takes one comparison a row. */
  function inOrder() {
    const before = [],
      fresh = [];
    for (const row of rows) {
      const place = places.get(key(row));
      if (place === undefined) fresh.push(row);
      else before[place] = row;
    }
    const sorted = [...before.filter(Boolean), ...fresh].sort((a, b) => compare(a, b) || (key(a) < key(b) ? -1 : 1));
    places = new Map(sorted.map((row, place) => [key(row), place]));
    return sorted;
  }

  function draw() {
    const sorted = inOrder();
    const last = Math.max(0, Math.ceil(sorted.length / PAGE) - 1);
    page = Math.min(Math.max(0, page), last);
    const shown = sorted.slice(page * PAGE, (page + 1) * PAGE);
    heads.forEach((head, index) => {
      const column = columns[index];
      if (!column.value) return;
      const is = column.name === order.name;
      head.setAttribute("aria-sort", is ? (order.down ? "descending" : "ascending") : "none");
      say(head.querySelector(".arrow"), is ? (order.down ? "↓" : "↑") : "");
    });
    const create = () =>
      h(
        "tr",
        {},
        columns.map((column) => h("td", { class: column.class, "data-title": column.title })),
      );
    keep(body, shown, key, create, (line, row) => {
      // A row that is the same object is the same row.
      if (line.shownRow === row) return;
      line.shownRow = row;
      columns.forEach((column, index) => {
        const cell = line.children[index],
          content = column.cell(row);
        if (content instanceof Node) cell.replaceChildren(content);
        else say(cell, content);
        // On a phone a row is a card, in which what is not known takes no room.
        cell.classList.toggle("none", cell.textContent === "–");
      });
    });
    show(pager, last > 0);
    before.disabled = page === 0;
    after.disabled = page === last;
    const from = page * PAGE;
    say(pages, `${integer(from + 1)}–${integer(from + shown.length)} of ${integer(sorted.length)}`);
    show(grid, sorted.length > 0);
    show(nothing, sorted.length === 0);
    if (sorted.length === 0) nothing.replaceChildren(...[empty?.() ?? "Nothing here."].flat());
  }

  return {
    element,
    update(next) {
      rows = next;
      draw();
    },
  };
}

/** A line of buttons of which one is chosen. */
export function choices(label, options, chosen) {
  let now = options[0].name;
  const buttons = options.map(({ name, title }) =>
    h(
      "button",
      { type: "button", class: "choice", "aria-pressed": String(name === now), onclick: () => choose(name) },
      h("span", {}, title),
      h("span", { class: "count" }),
    ),
  );
  function choose(name) {
    now = name;
    buttons.forEach((button, index) => button.setAttribute("aria-pressed", String(options[index].name === now)));
    chosen(now);
  }
  const element = h("div", { class: "choices", role: "group", "aria-label": label }, buttons);
  return {
    element,
    get now() {
      return now;
    },
    counts(of) {
      buttons.forEach((button, index) => say(button.lastChild, of[options[index].name] ?? ""));
    },
  };
}
