// Sweeps: runs that differ in some fields, beside each other.

import { follow } from "../api.js";
import { parallel } from "../chart/parallel.js";
import { h, once, put, say } from "../dom.js";
import { count } from "../format.js";
import { table } from "../list.js";
import { FIGURES, badge } from "./runs.js";

export function sweeps(room, frame) {
  let rows = [],
    chosen = null,
    shown = "";
  const summary = h("p", { class: "muted lead" });
  const pick = h("select", { id: "sweep", onchange: (event) => ((chosen = event.target.value), draw()) });
  const tools = h("div", { class: "tools" }, h("label", { for: "sweep", class: "muted" }, "Sweep"), pick);
  const body = h("div", { class: "stack" });
  room.append(h("div", { class: "heading" }, h("h1", {}, "Sweeps"), summary), tools, body);
  let list = null,
    picture = null;

  const draw = once(() => {
    const names = [...new Set(rows.map((run) => run.sweep.name))].sort();
    say(summary, rows.length ? `${count(names.length, "sweep")} of ${count(rows.length, "run")}` : "");
    tools.hidden = names.length === 0;
    if (!names.length) {
      shown = "";
      put(
        body,
        h(
          "section",
          { class: "card flush" },
          h(
            "div",
            { class: "empty" },
            h("h2", {}, "No sweeps"),
            h(
              "p",
              {},
              "A specification with a section ",
              h("code", {}, "[sweep]"),
              " is a run for every combination of its values:",
            ),
            h(
              "pre",
              {},
              h("code", {}, '[sweep]\n"train.learning_rate" = [0.002, 0.004]\n"hard_classes.threshold" = [0.8, 0.9]'),
            ),
            h("pre", {}, h("code", {}, "bloctrain submit sweep.toml --watch")),
          ),
        ),
      );
      return;
    }
    if (!names.includes(chosen)) chosen = names[0];
    if (JSON.stringify(names) !== pick.dataset.names) {
      pick.dataset.names = JSON.stringify(names);
      put(
        pick,
        names.map((name) => h("option", { value: name }, name)),
      );
    }
    pick.value = chosen;
    const own = rows.filter((run) => run.sweep.name === chosen);
    const fields = [...new Set(own.flatMap((run) => Object.keys(run.sweep.values)))].sort();
    const now = JSON.stringify([chosen, fields]);
    if (now !== shown) {
      shown = now;
      list = table({
        key: (run) => run.run,
        sort: { name: "validation", down: true },
        label: `Runs of the sweep ${chosen}`,
        columns: [
          ...fields.map((field) => ({
            name: `value ${field}`,
            title: field,
            value: (run) => run.sweep.values[field],
            cell: (run) => run.sweep.values[field] ?? "–",
            class: "number",
          })),
          { name: "state", title: "State", value: (run) => run.state, cell: (run) => badge(run.state) },
          ...FIGURES,
          {
            name: "run",
            title: "Run",
            value: (run) => run.run,
            cell: (run) => h("a", { href: `#/run/${encodeURIComponent(run.run)}` }, run.run),
          },
        ],
      });
      const holder = h("div", {
        class: "scroll parallel-holder",
        tabindex: "0",
        role: "region",
        "aria-label": "Parallel coordinates",
      });
      picture = parallel(holder, (run) => (location.hash = `#/run/${encodeURIComponent(run)}`));
      put(
        body,
        h(
          "section",
          { class: "card" },
          h("h2", {}, "Parallel coordinates"),
          h("p", { class: "muted" }, "A line is a run; the best by validation accuracy stands out."),
          holder,
        ),
        h("section", { class: "card flush" }, list.element),
      );
    }
    list.update(own);
    picture.update(
      own.map((run) => ({
        id: run.run,
        name: run.name,
        values: run.sweep.values,
        accuracy: run.validation_accuracy,
        efficiency: run.compute_efficiency,
      })),
    );
  });

  return follow(
    { topic: "runs" },
    (name, parts) => {
      if (name !== "runs") return;
      rows = [...parts.runs.values()].filter((run) => run.sweep);
      draw();
    },
    frame.status,
  );
}
