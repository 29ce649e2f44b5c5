// Tables whose cells are coloured by their values: class accuracies over blocks, and confusion matrices.

import { h } from "../dom.js";
import { integer, percent } from "../format.js";

/** Shades of the style sheet: heat0 to heat10. */
const shade = (fraction) => `heat${Math.max(0, Math.min(10, Math.round(fraction * 10)))}`;

/** Class accuracies: a row a class, a column a block; classes that stayed hard are marked, unless all did. */
export function classHeat(names, blocks) {
  const shown = blocks.filter((block) => block.accuracy.length > 0);
  // The last block has nobody to hand hard classes to.
  const hard = (block, label) => block.hands && block.hard?.length < block.classes.length && block.hard.includes(label);
  const all = shown.flatMap((block) => block.accuracy).filter((accuracy) => accuracy !== null);
  const [low, high] = [Math.min(...all, 0.95), Math.max(...all)];
  const scaled = (accuracy) => shade(high > low ? (accuracy - low) / (high - low) : 1);
  const cell = (block, label) => {
    const index = block.classes.indexOf(label);
    if (index < 0) return h("td", { class: "off" }, h("span", { class: "hidden" }, "not in this block"));
    const accuracy = block.accuracy[index];
    const known = accuracy !== null && accuracy !== undefined;
    const marked = hard(block, label);
    return h(
      "td",
      { class: `heat ${known ? scaled(accuracy) : ""}${marked ? " hard" : ""}` },
      percent(known ? accuracy : null, 1),
      marked ? h("span", { class: "mark", title: "stayed hard" }, "hard") : null,
    );
  };
  const lines = names.map((name, label) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", title: name }, name),
      shown.map((block) => cell(block, label)),
    ),
  );
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Class accuracies" },
    h(
      "table",
      { class: "heatmap" },
      h("caption", { class: "hidden" }, "Validation accuracy of every class, by block"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "class"),
          shown.map((block) => h("th", { scope: "col" }, `block ${block.block}`)),
        ),
      ),
      h("tbody", {}, lines),
    ),
  );
}

/** A confusion matrix: a row is a true class, coloured by its share of the row. */
export function confusion(names, labels, counts) {
  const name = (label) => names[label] ?? String(label);
  const line = (row, truth) => {
    const sum = row.reduce((sum, value) => sum + value, 0);
    return h(
      "tr",
      {},
      h("th", { scope: "row", title: name(labels[truth]) }, name(labels[truth])),
      row.map((value, answer) => {
        const share = sum > 0 ? value / sum : 0;
        const pair = `${name(labels[truth])} answered as ${name(labels[answer])}`;
        const what = `${pair}: ${integer(value)} (${percent(share, 1)})`;
        // The diagonal is right; the rest is wrong, and its small shares are what people look for.
        const kind = truth === answer ? shade(share) : `wrong${Math.min(10, Math.ceil(share * 20))}`;
        return h(
          "td",
          { class: `heat ${kind}${truth === answer ? " diagonal" : ""}`, title: what },
          value === 0 ? "" : integer(value),
        );
      }),
    );
  };
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
    h(
      "table",
      { class: "heatmap matrix" },
      h("caption", { class: "hidden" }, "Answers by true class (rows) and answered class (columns)"),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "true \\ answer"),
          labels.map((label) => h("th", { scope: "col", title: name(label) }, h("span", {}, name(label)))),
        ),
      ),
      h("tbody", {}, counts.map(line)),
    ),
  );
}
