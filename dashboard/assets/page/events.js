// What happened, newest first.

import { follow } from "../api.js";
import { h, keep, once, say, show } from "../dom.js";
import { count, time } from "../format.js";

/** Lines that are drawn. */
const SHOWN = 200;

/** Whether a line tells of trouble: a colour for the eye, nothing is decided by it. */
export const trouble = (text) =>
  /\b(lost|failed|fails|damaged|missing|refused|expired|silent|cannot|error|hung)\b/i.test(text);

export function events(room, frame) {
  let lines = [],
    word = "",
    only = false;
  const filter = h("input", {
    type: "search",
    placeholder: "Filter by text or run",
    "aria-label": "Filter events",
    oninput: (event) => ((word = event.target.value.toLowerCase()), draw()),
  });
  const troubles = h(
    "label",
    { class: "check" },
    h("input", { type: "checkbox", onchange: (event) => ((only = event.target.checked), draw()) }),
    "Trouble only",
  );
  const summary = h("p", { class: "muted lead" });
  const list = h("ol", { class: "events" });
  const empty = h("div", { class: "empty", hidden: true });
  room.append(
    h("div", { class: "heading" }, h("h1", {}, "Events"), summary),
    h("div", { class: "tools" }, filter, troubles),
    h("section", { class: "card flush" }, list, empty),
  );

  const draw = once(() => {
    const fits = (line) =>
      (!only || trouble(line.text)) &&
      (!word || line.text.toLowerCase().includes(word) || line.run.toLowerCase().includes(word));
    const found = lines.filter(fits).slice(-SHOWN).reverse();
    keep(
      list,
      found,
      (line) => line.sequence,
      (line) =>
        h(
          "li",
          { class: trouble(line.text) ? "trouble" : "" },
          h("time", { datetime: new Date(line.at_ms).toISOString() }, time(line.at_ms)),
          h("a", { href: `#/run/${encodeURIComponent(line.run)}` }, line.run),
          h("span", {}, line.text),
        ),
    );
    show(empty, found.length === 0);
    empty.replaceChildren(
      ...(lines.length
        ? [h("h2", {}, "No event like that"), h("p", {}, "Nothing here matches the filter.")]
        : [
            h("h2", {}, "Nothing has happened yet"),
            h(
              "p",
              {},
              "Grants, commits, losses and decisions appear here, from the time when this coordinator became active.",
            ),
          ]),
    );
    say(summary, lines.length ? `the last ${count(lines.length, "line")} of all runs` : "");
  });

  return follow(
    { topic: "events" },
    (_, parts) => {
      lines = parts.events ?? [];
      draw();
    },
    frame.status,
  );
}
