// A run's blocks as a picture: what every stage has done, who works where, which classes go on, what is cached.

import { once, s } from "../dom.js";
import { bytes, cut, integer, percent } from "../format.js";

/** What every stage does, for titles. */
const ABOUT = {
  train: "training of the block",
  merge: "merges of replicas",
  validate: "class accuracies, which decide the hard classes",
  score: "how hard every training sample is",
  select: "which samples the next block trains on",
  detect: "training of the detector",
  export: "spikes of what stays hard into the cache",
  evaluate: "the whole network on validation and test data",
  finish: "exits, figures and the model package",
};

const BOX = { width: 214, gap: 64, head: 46, row: 30, foot: 30 };

const stageKind = (stage, active) =>
  active.length ? "active" : stage.total > 0 && stage.done >= stage.total ? "done" : stage.done > 0 ? "begun" : "open";

/** One stage: a name, a bar, and who works on it. */
function stageRow(stage, attempts, x, y, width, share) {
  const active = attempts.filter((attempt) => attempt.task.stage === stage.stage);
  const kind = stageKind(stage, active);
  const done = share ?? (stage.total > 0 ? Math.min(1, stage.done / stage.total) : 0);
  const who =
    active.length === 1
      ? active[0].worker
      : active.length > 1
        ? `${active.length} workers`
        : kind === "done"
          ? "done"
          : kind === "open"
            ? ""
            : "waits";
  const held = active.map(({ worker, progress }) => {
    return `; ${worker}: ${integer(progress.done)} of ${integer(progress.total)}`;
  });
  const barX = x + 88,
    barWidth = 40;
  return s(
    "g",
    { class: `stage ${kind}` },
    s("title", {}, `${stage.stage}: ${ABOUT[stage.stage] ?? ""}; ${stage.done} of ${stage.total} done${held.join("")}`),
    s("circle", { cx: x + 15, cy: y + 14.5, r: 4, class: "lamp" }),
    s("text", { x: x + 26, y: y + 19 }, stage.stage),
    s("rect", { x: barX, y: y + 12, width: barWidth, height: 5, rx: 2.5, class: "rail" }),
    done > 0
      ? s("rect", { x: barX, y: y + 12, width: Math.max(3, barWidth * done), height: 5, rx: 2.5, class: "fill" })
      : null,
    s("text", { x: barX + barWidth + 9, y: y + 19, class: "who" }, cut(who, Math.floor((width - 88 - 40 - 18) / 6.6))),
  );
}

/** A block, begun or to come. */
function box(block, x, y, height, width) {
  const { stages, attempts } = block;
  const kind = attempts.length ? "active" : block.hard || block.over ? "done" : block.begun ? "begun" : "open";
  const group = s(
    "g",
    { class: `block ${kind}` },
    s("rect", { x, y, width, height, rx: 10, class: "frame" }),
    s("rect", {
      x,
      y: y + 10,
      width: 4,
      height: BOX.head - 20,
      rx: 2,
      class: `spine block${((block.block - 1) % 8) + 1}`,
    }),
    s("text", { x: x + 14, y: y + 21, class: "name" }, block.title),
    s("text", { x: x + 14, y: y + 37, class: "about" }, block.about),
    block.figure
      ? s("text", { x: x + width - 12, y: y + 21, class: "figure", "text-anchor": "end" }, block.figure)
      : null,
  );
  stages.forEach((stage, index) => {
    group.append(
      stageRow(
        stage,
        attempts,
        x,
        y + BOX.head + index * BOX.row,
        width,
        stage.stage === "train" ? block.trained : undefined,
      ),
    );
  });
  if (!block.begun && stages.length === 0)
    group.append(s("text", { x: x + 14, y: y + BOX.head + 18, class: "about" }, "to come"));
  return group;
}

/** An arrow with what goes over it. */
function arrow(from, to, across, texts, on) {
  const [x1, y1] = from,
    [x2, y2] = to;
  const group = s("g", { class: `arrow ${on ? "on" : ""}` });
  group.append(s("path", { d: `M${x1} ${y1}L${x2} ${y2}` }));
  group.append(s("path", { class: "tip", d: across ? `M${x2} ${y2}l-7 -4v8z` : `M${x2} ${y2}l-4 -7h8z` }));
  const middle = [(x1 + x2) / 2, (y1 + y2) / 2];
  texts.forEach((text, index) =>
    group.append(
      across
        ? s("text", { x: middle[0], y: y1 + (index === 0 ? -9 : 9 + index * 12), "text-anchor": "middle" }, text)
        : s("text", { x: middle[0] + 12, y: middle[1] + 4 + (index - (texts.length - 1) / 2) * 13 }, text),
    ),
  );
  return group;
}

/** Blocks and the end, from a run and its detail. */
function nodes(run, detail) {
  const planned = Math.max(run.planned_blocks, run.blocks.length);
  const over = run.state.state === "completed" || run.stages.some((stage) => stage.done > 0);
  const list = [];
  for (let number = 1; number <= planned; number++) {
    const block = run.blocks.find((block) => block.block === number);
    if (!block && over) continue;
    const more = detail?.blocks.find((block) => block.block === number);
    const attempts = run.attempts.filter((attempt) => attempt.task.block === number);
    const round = block?.last_round;
    const working = attempts.find((attempt) => attempt.task.stage === "train")?.progress;
    const epochs = (number > 1 && run.later_epochs) || run.planned_epochs;
    const part = working && working.total > 0 ? working.done / working.total : 0;
    list.push({
      block: number,
      begun: Boolean(block),
      attempts,
      hard: block?.hard,
      over,
      title: run.end_to_end ? "network" : `block ${number}`,
      about: block
        ? `${block.classes.length} classes${more?.train_samples ? `, ${integer(more.train_samples)} samples` : ""}`
        : "what stays hard",
      figure: block?.accuracy !== null && block?.accuracy !== undefined ? percent(block.accuracy, 1) : "",
      trained:
        block?.hard || block?.accuracy
          ? 1
          : epochs
            ? Math.min(1, Math.max((round?.epochs ?? 0) / epochs, part))
            : undefined,
      stages: (block?.stages ?? []).filter((stage) => stage.total > 0 || stage.done > 0),
      goes: block?.hard?.length < block?.classes.length ? block.hard : null,
      cached: more?.cached_bytes ?? 0,
    });
  }
  const last = {
    block: planned + 1,
    begun: over,
    end: true,
    over,
    attempts: run.attempts.filter((attempt) => attempt.task.block === 0),
    title: "exits and package",
    about: run.summary ? `${integer(run.summary.blocks.length)} exits` : "after the last block",
    figure: run.summary ? percent(run.summary.accuracy.test, 1) : "",
    stages: run.stages,
    hard: run.summary,
  };
  return [...list, last];
}

/** The picture; `update(run, detail)`. */
export function pipeline(holder) {
  let now = null;
  const draw = once(() => {
    if (!now || !holder.isConnected) return;
    const list = nodes(...now);
    const width = holder.clientWidth || 800;
    const tallest = Math.max(1, ...list.map((node) => node.stages.length));
    const across = width >= list.length * (BOX.width - 24) + (list.length - 1) * 40;
    const gap = across
      ? Math.max(40, Math.min(BOX.gap, (width - list.length * BOX.width) / Math.max(1, list.length - 1)))
      : 40;
    const each = across
      ? Math.min(BOX.width + 60, (width - (list.length - 1) * gap - 2) / list.length)
      : Math.min(width - 2, 420);
    const height = (node) => BOX.head + Math.max(1, across ? tallest : node.stages.length) * BOX.row + 10;
    const picture = s("svg", { class: "pipeline", role: "group", "aria-label": "Pipeline of blocks" });
    let at = 1;
    list.forEach((node, index) => {
      const [x, y] = across ? [at, 1] : [1, at];
      picture.append(box(node, x, y, height(node), each));
      const size = across ? each : height(node);
      if (index < list.length - 1) {
        const next = list[index + 1],
          on = next.begun;
        const texts = [];
        if (node.goes && !next.end) texts.push(`${node.goes.length} hard`);
        if (node.cached > 0) texts.push(bytes(node.cached));
        const middle = BOX.head / 2 + 2;
        picture.append(
          across
            ? arrow([x + each + 4, y + middle + 18], [x + each + gap - 4, y + middle + 18], true, texts, on)
            : arrow(
                [x + 26, y + size + 4],
                [x + 26, y + size + gap - 4],
                false,
                texts.length ? [texts.join(", ")] : [],
                on,
              ),
        );
      }
      at += size + gap;
    });
    const total = at - gap + 1;
    const box2 = across ? [width, height(list[0]) + 2] : [each + 2, total];
    picture.setAttribute("viewBox", `0 0 ${box2[0]} ${box2[1]}`);
    picture.setAttribute("width", box2[0]);
    picture.setAttribute("height", box2[1]);
    holder.replaceChildren(picture);
  });
  new ResizeObserver(draw).observe(holder);
  return {
    update(run, detail) {
      now = [run, detail];
      draw();
    },
  };
}
