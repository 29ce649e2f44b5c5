// One run: where it stands, how it learns, what its blocks can do, what leaves where.

import { follow, get, order } from "../api.js";
import { exits, funnel } from "../chart/bars.js";
import { classHeat, confusion } from "../chart/heat.js";
import { blockKey, lines } from "../chart/lines.js";
import { pipeline } from "../chart/pipeline.js";
import { h, keep, once, put, say, show } from "../dom.js";
import { ago, bytes, count, duration, integer, left, percent, short, task, time } from "../format.js";
import { trouble } from "./events.js";
import { badge } from "./runs.js";
import { samples } from "./samples.js";

const card = (title, about, ...content) =>
  h("section", { class: "card" }, h("h2", {}, title), about ? h("p", { class: "muted" }, about) : null, content);

const firing = (line) => line.firing_rate ?? mean(line.firing_rates);

const mean = (values) => (values?.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

/** The orders that a run in a state takes. */
const ORDERS = {
  running: ["pause", "cancel"],
  paused: ["resume", "cancel"],
  completed: ["delete"],
  failed: ["delete"],
  cancelled: ["delete"],
};
const SURE = {
  cancel: "Cancel this run? Submitting it again takes it up where it was.",
  delete: "Delete this run? Its model is garbage then, and “cache gc” removes what it made.",
};

/** A question before something that is not taken back; in the page, so that it has the page's look. */
function ask(text, yes) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { class: "card ask", "aria-label": text },
      h("p", {}, text),
      h(
        "div",
        { class: "buttons" },
        h("button", { type: "button", onclick: () => dialog.close() }, "Keep it"),
        h("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, yes),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Name, state, orders and how far it is. */
function heading(frame, id) {
  const name = h("h1", {}, id),
    state = h("span", {}),
    about = h("p", { class: "muted lead" });
  const buttons = h("div", { class: "buttons" });
  const fill = h("i"),
    meter = h(
      "div",
      { class: "meter large", role: "progressbar", "aria-label": "progress", "aria-valuemin": 0, "aria-valuemax": 100 },
      fill,
    );
  const where = h("p", { class: "muted" });
  const message = h("p", { class: "problem", role: "alert", hidden: true });
  let shown = "";

  async function act(what) {
    if (SURE[what] && !(await ask(SURE[what], what === "cancel" ? "Cancel the run" : "Delete the run"))) return;
    try {
      await order(id, what);
      if (what === "delete") location.hash = "#/runs";
    } catch (refused) {
      frame.say(refused.message);
    }
  }

  return {
    element: h(
      "div",
      { class: "run-head" },
      h("div", { class: "heading" }, h("div", { class: "title-line" }, name, state), about, buttons),
      message,
      meter,
      where,
    ),
    update(run, detail) {
      say(name, run.name ?? run.run);
      frame.title(run.name ?? run.run);
      const asked = detail?.asked;
      const network = asked ? `${asked.preset ?? "own layers"}${asked.width ? ` at width ${asked.width}` : ""}` : "";
      say(
        about,
        [
          run.name ? run.run : "",
          run.dataset,
          run.end_to_end ? "end to end" : "",
          network,
          asked ? count(asked.steps, "step") : "",
          asked ? `seed ${asked.seed}` : "",
          detail?.backend ?? "",
        ]
          .filter(Boolean)
          .join(" · "),
      );
      const now = `${run.state.state} ${frame.operator}`;
      if (now !== shown) {
        shown = now;
        put(state, badge(run.state.state));
        put(
          buttons,
          frame.operator
            ? ORDERS[run.state.state].map((what) =>
                h(
                  "button",
                  {
                    type: "button",
                    class: what === "delete" || what === "cancel" ? "quiet-danger" : "",
                    onclick: () => act(what),
                  },
                  what[0].toUpperCase() + what.slice(1),
                ),
              )
            : [],
        );
      }
      show(message, Boolean(run.state.message));
      say(message, run.state.message ?? "");
      fill.style.width = `${(run.progress * 100).toFixed(1)}%`;
      meter.className = `meter large ${run.state.state}`;
      meter.setAttribute("aria-valuenow", Math.round(run.progress * 100));
      const rest = left(run.left_seconds);
      say(
        where,
        [
          `${(run.progress * 100).toFixed(0)} %`,
          rest ? `at most about ${rest} of training left` : "",
          `submitted ${ago(run.created_ms)}`,
          run.summary ? `${duration(run.summary.wall_seconds)} of work` : "",
        ]
          .filter(Boolean)
          .join(" · "),
      );
    },
  };
}

/** The figures of a completed run. */
function figures() {
  const tile = (title) => {
    const value = h("strong"),
      about = h("span", { class: "muted" });
    return {
      element: h("div", { class: "tile" }, h("span", { class: "muted" }, title), value, about),
      set(text, more = "") {
        say(value, text);
        say(about, more);
      },
    };
  };
  const tiles = {
    test: tile("Test accuracy"),
    efficiency: tile("Compute efficiency"),
    synops: tile("Synaptic operations"),
    macs: tile("MACs"),
    overhead: tile("Parameter overhead"),
    cache: tile("Spike cache"),
  };
  const element = h(
    "section",
    { class: "tiles", "aria-label": "Figures", hidden: true },
    Object.values(tiles).map((tile) => tile.element),
  );
  return {
    element,
    update({ summary }) {
      show(element, Boolean(summary));
      if (!summary) return;
      const { inference, cache } = summary;
      tiles.test.set(percent(summary.accuracy.test), `validation ${percent(summary.accuracy.validation)}`);
      tiles.efficiency.set(`${inference.compute_efficiency.toFixed(2)}×`, "of the whole network's compute");
      tiles.synops.set(short(inference.synops_per_sample), "per input");
      tiles.macs.set(short(inference.macs_per_sample), "per input");
      tiles.overhead.set(`${inference.parameter_overhead.toFixed(3)}×`, "of the end-to-end network");
      tiles.cache.set(
        bytes(cache.bytes),
        cache.uncompressed_bytes ? `${bytes(cache.uncompressed_bytes)} uncompressed` : "",
      );
    },
  };
}

/** Who works on it. */
function attempts() {
  const list = h("ul", { class: "work" });
  const none = h("p", { class: "quiet" });
  const element = card("At work", null, list, none);
  return {
    element,
    update(run) {
      show(element, run.attempts.length > 0 || ["running", "paused"].includes(run.state.state));
      keep(
        list,
        run.attempts,
        (attempt) => `${attempt.worker} ${task(attempt.task)}`,
        (attempt) =>
          h(
            "li",
            {},
            h(
              "span",
              { class: "name-cell" },
              h("strong", {}, attempt.worker),
              h("span", { class: "muted" }, task(attempt.task) + (attempt.backup ? ", a second attempt" : "")),
            ),
            h("span", { class: "meter" }, h("i")),
            h("span", { class: "muted" }),
          ),
        (line, { progress }) => {
          line.children[1].firstChild.style.width = `${progress.total ? (100 * progress.done) / progress.total : 0}%`;
          say(
            line.children[2],
            [
              progress.epochs > 1
                ? `epoch ${Math.min(progress.epoch + 1, progress.epochs)} of ${progress.epochs}`
                : progress.total
                  ? `${integer(progress.done)} of ${integer(progress.total)}`
                  : "begins",
              progress.images_per_second ? `${short(progress.images_per_second)} images/s` : "",
              progress.loss ? `loss ${progress.loss.toFixed(3)}` : "",
            ]
              .filter(Boolean)
              .join(" · "),
          );
        },
      );
      show(none, run.attempts.length === 0);
      say(
        none,
        { running: run.missing ?? "Nobody works on it at the moment.", paused: "Paused: no tasks are handed out." }[
          run.state.state
        ],
      );
    },
  };
}

/** Curves over the epochs of every block. */
function curves() {
  const epoch = { xLabel: "epoch" };
  const charts = {
    loss: lines({ title: "Loss", unit: (value) => value.toPrecision(3), ...epoch }),
    accuracy: lines({ title: "Accuracy", unit: (value) => percent(value, 1), ...epoch }),
    firing: lines({ title: "Firing rate", unit: (value) => percent(value, 1), ...epoch }),
    speed: lines({ title: "Images a second", unit: (value) => short(value), ...epoch }),
  };
  const key = h("div"),
    rows = h("tbody");
  const numbers = h(
    "details",
    {},
    h("summary", {}, "All epochs as numbers"),
    h(
      "div",
      { class: "scroll" },
      h(
        "table",
        { class: "grid plain-rows" },
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            [
              "Block",
              "Epoch",
              "Loss",
              "Accuracy",
              "Validation",
              "Firing",
              "Images/s",
              "Learning rate",
              "Seconds",
              "Peak memory",
            ].map((title) => h("th", { scope: "col", class: "number" }, title)),
          ),
        ),
        rows,
      ),
    ),
  );
  const element = h(
    "section",
    { class: "card" },
    h("h2", {}, "Learning"),
    key,
    h(
      "div",
      { class: "charts" },
      Object.values(charts).map((chart) => chart.element),
    ),
    numbers,
  );
  let history = [];

  const fillNumbers = () => {
    if (!numbers.open) return;
    keep(
      rows,
      history.slice(-1000),
      (line) => `${line.block} ${line.epoch} ${line.round}`,
      (line) =>
        h(
          "tr",
          {},
          [
            line.block,
            line.epoch,
            line.loss.toFixed(4),
            percent(line.accuracy),
            percent(line.validation_accuracy),
            percent(firing(line)),
            short(line.images_per_second),
            line.learning_rate.toPrecision(3),
            line.seconds.toFixed(1),
            bytes(line.peak_bytes),
          ].map((text) => h("td", { class: "number" }, text)),
        ),
    );
  };
  numbers.addEventListener("toggle", fillNumbers);

  return {
    element,
    update(next) {
      history = next;
      const blocks = [...new Set(history.map((line) => line.block))].sort((a, b) => a - b);
      const x = [...new Set(history.map((line) => line.epoch))].sort((a, b) => a - b);
      const series = (pick, more = {}, name = (block) => `block ${block}`) =>
        blocks.map((block) => {
          const own = new Map(history.filter((line) => line.block === block).map((line) => [line.epoch, pick(line)]));
          return { name: name(block), block, values: x.map((epoch) => own.get(epoch) ?? null), ...more };
        });
      const validation = series(
        (line) => line.validation_accuracy,
        { dashed: true },
        (block) => `block ${block} validation`,
      ).filter((line) => line.values.some((value) => value !== null));
      charts.loss.update({ x, series: series((line) => line.loss) });
      charts.accuracy.update({ x, series: [...series((line) => line.accuracy), ...validation] });
      charts.firing.update({ x, series: series(firing) });
      charts.speed.update({ x, series: series((line) => line.images_per_second) });
      put(
        key,
        blockKey(
          blocks,
          validation.length
            ? [
                { title: "training", kind: "solid" },
                { title: "validation", kind: "dashed" },
              ]
            : [],
        ),
      );
      fillNumbers();
    },
  };
}

/** What the blocks can tell apart, and how many samples reach them. */
function classes() {
  const heat = h("div"),
    matrix = h("div"),
    bars = h("div");
  const pick = h("select", { id: "matrix-block", onchange: () => drawMatrix() });
  const chooser = h("div", { class: "tools" }, h("label", { for: "matrix-block", class: "muted" }, "Block"), pick);
  let detail = null,
    run = null,
    shown = "";

  function drawMatrix() {
    const known = detail.blocks.filter((block) => block.confusion.length);
    show(chooser, known.length > 1);
    if (!known.length)
      return put(
        matrix,
        h(
          "p",
          { class: "quiet" },
          detail.classes.length > 64
            ? "There are too many classes for a matrix."
            : "It is known when a block has been validated.",
        ),
      );
    const names = known.map((block) => String(block.block));
    if (pick.dataset.names !== names.join()) {
      pick.dataset.names = names.join();
      put(
        pick,
        names.map((name) => h("option", { value: name }, name)),
      );
    }
    const block = known.find((block) => String(block.block) === pick.value) ?? known[0];
    put(
      matrix,
      confusion(detail.classes, run.blocks.find((view) => view.block === block.block).classes, block.confusion),
    );
  }

  return {
    element: h(
      "div",
      { class: "two" },
      card(
        "Classes",
        "Validation accuracy by class and block. Hard classes go on to the next block; without marks all do.",
        heat,
      ),
      h(
        "div",
        { class: "stack" },
        card("Samples from block to block", "Training samples of an epoch: only hard classes or inputs go on.", bars),
        card("Confusion", "Rows are true classes, columns are answers.", chooser, matrix),
      ),
    ),
    update(nextRun, nextDetail) {
      [run, detail] = [nextRun, nextDetail];
      const now = JSON.stringify([detail.blocks, run.blocks.map((block) => [block.classes, block.hard])]);
      if (now === shown) return;
      shown = now;
      const blocks = run.blocks.map((block, index) => {
        const more = detail.blocks.find((more) => more.block === block.block);
        return {
          block: block.block,
          classes: block.classes,
          hard: block.hard,
          hands: index + 1 < run.blocks.length || (run.state.state === "running" && block.block < run.planned_blocks),
          accuracy: more?.class_accuracy ?? [],
          samples: more?.train_samples ?? null,
        };
      });
      put(
        heat,
        blocks.some((block) => block.accuracy.length)
          ? classHeat(detail.classes, blocks)
          : h("p", { class: "quiet" }, "It is known when the first block has been validated."),
      );
      put(bars, funnel(blocks.map(({ block, samples, classes }) => ({ block, samples, classes: classes.length }))));
      drawMatrix();
    },
  };
}

/** Where inputs leave, and what that costs. */
function leaving(id) {
  const bars = h("div", {}, h("p", { class: "quiet" }, "Exits are chosen when the run completes."));
  const chart = lines({
    title: "Accuracy against compute",
    xLabel: "compute",
    unit: (value) => percent(value, 1),
    xText: (value) => percent(value, 0),
    height: 240,
    range: { x: (_, low, high) => [Math.max(0, low - 0.03), high + 0.03] },
    summary: (data) => data.said,
  });
  const key = h(
    "ul",
    { class: "key", hidden: true },
    h("li", {}, h("span", { class: "swatch block1" }), "validation"),
    h("li", {}, h("span", { class: "swatch block2" }), "test"),
    h("li", {}, h("span", { class: "ring" }), "chosen point"),
  );
  const element = h(
    "section",
    { class: "card" },
    h("h2", {}, "Exits"),
    h(
      "div",
      { class: "two even" },
      h("div", {}, h("p", { class: "muted" }, "Test inputs by the block at which they leave."), bars),
      h("div", {}, key, chart.element),
    ),
  );
  show(chart.element, false);
  let asked = false;
  async function load() {
    let curve;
    try {
      curve = await get(`/runs/${encodeURIComponent(id)}/curve`);
    } catch {
      asked = false;
      return;
    }
    // A step of the front may come back to the same compute; the axis needs each once.
    const points = curve.points.flatMap((point, index) => [
      ["validation", point.validation, index],
      ["test", point.test, index],
    ]);
    const x = [...new Set(points.map(([, figures]) => figures.relative_compute))].sort((a, b) => a - b);
    const series = (kind, block) => {
      const of = new Map(
        points.filter(([of]) => of === kind).map(([, figures]) => [figures.relative_compute, figures.accuracy]),
      );
      return { name: kind, block, values: x.map((compute) => of.get(compute) ?? null), points: true, size: 5 };
    };
    const chosen = curve.points[curve.chosen];
    const ring = {
      name: "chosen",
      block: 1,
      stroke: getComputedStyle(document.documentElement).getPropertyValue("--ink").trim(),
      points: true,
      size: 13,
      hollow: true,
      values: x.map((compute) => (compute === chosen?.validation.relative_compute ? chosen.validation.accuracy : null)),
    };
    const both = {
      ...ring,
      name: "chosen on test",
      values: x.map((compute) => (compute === chosen?.test.relative_compute ? chosen.test.accuracy : null)),
    };
    const whole = curve.without_exits ? `; without early exits ${percent(curve.without_exits.test.accuracy)}` : "";
    show(key, true);
    show(chart.element, true);
    const { accuracy, relative_compute: compute } = chosen?.test ?? {};
    chart.update({
      x,
      series: [series("validation", 1), series("test", 2), ring, both],
      said: chosen ? `chosen: ${percent(accuracy)} on test at ${percent(compute, 1)} of the compute${whole}` : "",
    });
  }
  return {
    element,
    update(run) {
      if (!run.summary) return;
      put(bars, exits(run.summary.blocks.map((block) => ({ block: block.block, fraction: block.exit_fraction }))));
      if (!asked) {
        asked = true;
        load();
      }
    },
  };
}

/** Notes, losses, and the log. */
function words() {
  const notes = h("ul", { class: "notes" }),
    log = h("ol", { class: "events" });
  const none = h("p", { class: "quiet" }, "Nothing to note.");
  const silent = h("p", { class: "quiet" }, "Nothing has happened since this coordinator became active.");
  return {
    element: h(
      "div",
      { class: "two even" },
      card("Notes", null, notes, none),
      h(
        "section",
        { class: "card" },
        h("h2", {}, "Log"),
        h("div", { class: "log", tabindex: "0", role: "region", "aria-label": "Log" }, log),
        silent,
      ),
    ),
    update(run, lines) {
      const told = [
        ...(run.missing ? [{ kind: "trouble", text: `Nobody can work on it: ${run.missing}` }] : []),
        ...(run.lost ?? []).map((lost) => ({
          kind: "trouble",
          text: `${task(lost.task)} was lost ${count(lost.workers.length, "time")}: ${lost.workers.join("; ")}`,
        })),
        ...run.refused.map((refused) => ({ kind: "trouble", text: `No tasks for ${refused.worker}: ${refused.why}` })),
        ...[...run.notes].reverse().map((text) => ({ kind: "", text })),
        ...(run.summary?.notes ?? []).map((text) => ({ kind: "", text })),
      ].map((note, index) => ({ ...note, key: `${index} ${note.text}` }));
      keep(
        notes,
        told,
        (note) => note.key,
        (note) => h("li", { class: note.kind }, note.text),
      );
      show(none, told.length === 0);
      keep(
        log,
        [...lines].reverse().slice(0, 200),
        (line) => line.number,
        (line) =>
          h(
            "li",
            { class: trouble(line.text) ? "trouble" : "" },
            h("time", { datetime: new Date(line.at_ms).toISOString() }, time(line.at_ms)),
            h("span", {}, line.text),
          ),
      );
      show(silent, lines.length === 0);
    },
  };
}

export function run(room, frame, id) {
  const parts = {
    head: heading(frame, id),
    figures: figures(),
    attempts: attempts(),
    curves: curves(),
    classes: classes(),
    leaving: leaving(id),
    samples: samples(id),
    words: words(),
  };
  const holder = h("div", { class: "scroll picture", tabindex: "0", role: "region", "aria-label": "Pipeline" });
  const picture = pipeline(holder);
  const body = h(
    "div",
    { hidden: true, class: "stack" },
    parts.head.element,
    parts.figures.element,
    h("section", { class: "card" }, h("h2", {}, "Pipeline"), holder),
    parts.attempts.element,
    parts.curves.element,
    parts.classes.element,
    parts.leaving.element,
    parts.samples.element,
    parts.words.element,
  );
  const waiting = h("p", { class: "empty" }, "…");
  room.append(h("p", { class: "back" }, h("a", { href: "#/runs" }, "← All runs")), waiting, body);

  let state = {},
    drawn = {};
  const draw = once(() => {
    const { run, detail, history, log } = state;
    if (!run || !detail) return;
    show(waiting, false);
    show(body, true);
    parts.head.update(run, detail);
    parts.figures.update(run);
    parts.attempts.update(run);
    picture.update(run, detail);
    if (history !== drawn.history) parts.curves.update(history ?? []);
    parts.classes.update(run, detail);
    parts.leaving.update(run);
    parts.samples.update(run, detail);
    parts.words.update(run, log ?? []);
    drawn = { history };
  });

  return follow(
    { topic: "run", run: id },
    (_, parts) => {
      state = { ...parts };
      draw();
    },
    (status, why) => {
      frame.status(status, why);
      if (status === "gone") {
        show(body, false);
        show(waiting, true);
        put(waiting, h("span", {}, why));
      }
    },
  );
}
