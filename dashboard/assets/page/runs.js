// All runs.

import { follow } from "../api.js";
import { h, once, say } from "../dom.js";
import { ago, count, integer, left, percent, times } from "../format.js";
import { choices, table } from "../list.js";

const STATES = ["running", "paused", "completed", "failed", "cancelled"];

export const badge = (state) => h("span", { class: `badge ${state}` }, state);

/** Columns of what a run came to. */
export const FIGURES = [
  {
    name: "validation",
    title: "Validation",
    value: (run) => run.validation_accuracy,
    cell: (run) => percent(run.validation_accuracy),
    class: "number",
    down: true,
  },
  {
    name: "test",
    title: "Test",
    value: (run) => run.test_accuracy,
    cell: (run) => percent(run.test_accuracy),
    class: "number",
    down: true,
  },
  {
    name: "efficiency",
    title: "Efficiency",
    value: (run) => run.compute_efficiency,
    cell: (run) => times(run.compute_efficiency),
    class: "number",
    down: true,
  },
];

/** A bar with how far a run is, and where. */
function progress(run) {
  const fill = h("i");
  fill.style.width = `${(run.progress * 100).toFixed(1)}%`;
  const where =
    run.state === "completed"
      ? "done"
      : `block ${run.block} of ${run.planned_blocks || run.block}${run.stage ? ` · ${run.stage}` : ""}`;
  return h(
    "span",
    { class: "progress-cell" },
    h(
      "span",
      {
        class: `meter ${run.state}`,
        role: "progressbar",
        "aria-label": "progress",
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-valuenow": Math.round(run.progress * 100),
      },
      fill,
    ),
    h("span", { class: "muted" }, where),
  );
}

const link = (run) =>
  h(
    "span",
    { class: "name-cell" },
    h("a", { href: `#/run/${encodeURIComponent(run.run)}`, title: run.name ?? run.run }, run.name ?? run.run),
    h("span", { class: "muted" }, run.name ? `${run.run} · ${run.dataset}` : run.dataset),
  );

const COLUMNS = [
  { name: "name", title: "Run", value: (run) => run.name ?? run.run, cell: link, class: "wide" },
  { name: "state", title: "State", value: (run) => STATES.indexOf(run.state), cell: (run) => badge(run.state) },
  {
    name: "progress",
    title: "Progress",
    value: (run) => run.progress,
    cell: progress,
    class: "bar-column",
    down: true,
  },
  {
    name: "left",
    title: "Left",
    value: (run) => run.left_seconds,
    cell: (run) =>
      run.missing
        ? h("span", { class: "warn", title: run.missing }, "no worker")
        : left(run.left_seconds)
          ? `≤ ${left(run.left_seconds)}`
          : "–",
    class: "number",
  },
  ...FIGURES,
  {
    name: "changed",
    title: "Changed",
    value: (run) => run.updated_ms,
    cell: (run) => ago(run.updated_ms),
    class: "number",
    down: true,
  },
];

export function runs(room, frame) {
  let rows = [],
    word = "";
  const filter = h("input", {
    type: "search",
    placeholder: "Filter by name, id or data set",
    "aria-label": "Filter runs",
    oninput: (event) => ((word = event.target.value.toLowerCase()), draw()),
  });
  const states = choices("State", [{ name: "", title: "All" }, ...STATES.map((name) => ({ name, title: name }))], () =>
    draw(),
  );
  const summary = h("p", { class: "muted lead" });
  const list = table({
    columns: COLUMNS,
    key: (run) => run.run,
    sort: { name: "changed", down: true },
    label: "Runs",
    empty: () =>
      rows.length
        ? [h("h2", {}, "No run like that"), h("p", {}, "Nothing here matches the filter.")]
        : [
            h("h2", {}, "No runs yet"),
            h("p", {}, "Submit the default run, on images that the program contains:"),
            h("pre", {}, h("code", {}, "bloctrain submit --watch")),
            h(
              "p",
              { class: "muted" },
              "or train on this machine and look at it here with ",
              h("code", {}, "bloctrain train --http 127.0.0.1:9090"),
              ".",
            ),
          ],
  });
  room.append(
    h("div", { class: "heading" }, h("h1", {}, "Runs"), summary),
    h("div", { class: "tools" }, filter, states.element),
    h("section", { class: "card flush" }, list.element),
  );

  const draw = once(() => {
    const own = (run) =>
      [run.name, run.run, run.dataset, run.sweep?.name].some((text) => text?.toLowerCase().includes(word));
    const found = rows.filter((run) => !word || own(run));
    states.counts(
      Object.fromEntries([
        ["", found.length],
        ...STATES.map((name) => [name, found.filter((run) => run.state === name).length]),
      ]),
    );
    list.update(found.filter((run) => !states.now || run.state === states.now));
  });

  return follow(
    { topic: "runs" },
    (name, parts) => {
      if (name === "runs") {
        rows = [...parts.runs.values()];
        draw();
      }
      const fleet = parts.fleet;
      const longest = Math.max(0, ...rows.map((run) => run.left_seconds ?? 0));
      say(
        summary,
        fleet
          ? [
              count(rows.length, "run"),
              `${count(fleet.workers, "worker")}${fleet.workers ? `, ${integer(fleet.workers_waiting)} waiting` : ""}`,
              longest ? `at most about ${left(longest)} of training left` : "",
            ]
              .filter(Boolean)
              .join(" · ")
          : "",
      );
    },
    frame.status,
  );
}
