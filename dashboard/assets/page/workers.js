// The workers of the fleet.

import { follow } from "../api.js";
import { h, once, say } from "../dom.js";
import { bytes, count, duration, integer, task } from "../format.js";
import { choices, table } from "../list.js";

const kind = (worker) => (worker.silent_ms >= 5000 ? "silent" : worker.task ? "working" : "waiting");

const work = (worker) => {
  if (!worker.task)
    return h("span", { class: "muted" }, worker.refused.length ? worker.refused[0] : "waits for a task");
  const [run, id] = worker.task;
  return h(
    "span",
    { class: "name-cell" },
    h("span", {}, task(id)),
    h("a", { class: "small", href: `#/run/${encodeURIComponent(run)}` }, run),
  );
};

const COLUMNS = [
  {
    name: "name",
    title: "Worker",
    value: (worker) => worker.name,
    cell: (worker) =>
      h(
        "span",
        { class: "name-cell" },
        h("strong", { title: worker.name }, worker.name),
        h("span", { class: "muted" }, `version ${worker.version || "unknown"}`),
      ),
    class: "wide",
  },
  {
    name: "state",
    title: "State",
    value: kind,
    cell: (worker) => h("span", { class: `badge ${kind(worker)}` }, kind(worker)),
  },
  {
    name: "device",
    title: "Device",
    value: (worker) => worker.device || worker.backend,
    cell: (worker) => worker.device || worker.backend,
  },
  {
    name: "memory",
    title: "Memory",
    value: (worker) => worker.memory_bytes || null,
    cell: (worker) => (worker.memory_bytes ? bytes(worker.memory_bytes) : "–"),
    class: "number",
    down: true,
  },
  {
    name: "task",
    title: "Task",
    value: (worker) => (worker.task ? `${worker.task[0]} ${worker.task[1].block} ${worker.task[1].stage}` : null),
    cell: work,
    class: "wide",
  },
  {
    name: "silent",
    title: "Last heard",
    value: (worker) => worker.silent_ms,
    cell: (worker) => (worker.silent_ms >= 5000 ? `${duration(worker.silent_ms / 1000)} ago` : "now"),
    class: "number",
    down: true,
  },
  {
    name: "completed",
    title: "Tasks done",
    value: (worker) => worker.completed,
    cell: (worker) => integer(worker.completed),
    class: "number",
    down: true,
  },
];

export function workers(room, frame) {
  let rows = [],
    word = "";
  const filter = h("input", {
    type: "search",
    placeholder: "Filter by name, device or run",
    "aria-label": "Filter workers",
    oninput: (event) => ((word = event.target.value.toLowerCase()), draw()),
  });
  const kinds = ["working", "waiting", "silent"];
  const states = choices("State", [{ name: "", title: "All" }, ...kinds.map((name) => ({ name, title: name }))], () =>
    draw(),
  );
  const summary = h("p", { class: "muted lead" });
  const list = table({
    columns: COLUMNS,
    key: (worker) => worker.row,
    sort: { name: "name" },
    label: "Workers",
    empty: () =>
      rows.length
        ? [h("h2", {}, "No worker like that"), h("p", {}, "Nothing here matches the filter.")]
        : [
            h("h2", {}, "No workers"),
            h("p", {}, "Tasks wait until a worker joins this fleet:"),
            h("pre", {}, h("code", {}, "bloctrain worker --coordinator http://HOST:7070")),
          ],
  });
  room.append(
    h("div", { class: "heading" }, h("h1", {}, "Workers"), summary),
    h("div", { class: "tools" }, filter, states.element),
    h("section", { class: "card flush" }, list.element),
  );

  const known = new Map();
  const draw = once(() => {
    const own = (worker) =>
      [worker.name, worker.device, worker.backend, worker.task?.[0]].some((text) => text?.toLowerCase().includes(word));
    const found = rows.filter((worker) => !word || own(worker));
    states.counts(
      Object.fromEntries([
        ["", found.length],
        ...kinds.map((name) => [name, found.filter((worker) => kind(worker) === name).length]),
      ]),
    );
    list.update(found.filter((worker) => !states.now || kind(worker) === states.now));
  });

  return follow(
    { topic: "workers" },
    (name, parts) => {
      if (name === "workers") {
        rows = [...parts.workers].map(([row, worker]) => {
          // The same object as before where nothing changed, so that its line is not drawn again.
          const before = known.get(row);
          if (before?.of === worker) return before;
          const now = { ...worker, row, of: worker };
          known.set(row, now);
          return now;
        });
        for (const row of known.keys()) if (!parts.workers.has(row)) known.delete(row);
        draw();
      }
      const memory = rows.reduce((sum, worker) => sum + worker.memory_bytes, 0);
      say(
        summary,
        [
          count(rows.length, "worker"),
          `${integer(rows.filter((worker) => worker.task).length)} at work`,
          memory ? `${bytes(memory)} of memory` : "",
        ]
          .filter(Boolean)
          .join(" · "),
      );
    },
    frame.status,
  );
}
