// Bars: the funnel of samples from block to block, and where inputs leave the network.

import { h } from "../dom.js";
import { integer, percent } from "../format.js";

const bar = (width, kind) => {
  const inner = h("div", { class: `bar ${kind}` });
  inner.style.width = `${Math.max(0.4, Math.min(100, width * 100))}%`;
  return h("div", { class: "track" }, inner);
};

/** Training samples of every block, against those of the first: `[{ block, samples, classes }]`. */
export function funnel(blocks) {
  const most = Math.max(1, ...blocks.map((block) => block.samples ?? 0));
  return h(
    "ol",
    { class: "bars" },
    blocks.map(({ block, samples, classes }) =>
      h(
        "li",
        {},
        h("span", { class: "bar-name" }, `block ${block}`),
        bar((samples ?? 0) / most, `block${((block - 1) % 8) + 1}`),
        h(
          "span",
          { class: "bar-value" },
          samples === null ? "not trained yet" : `${integer(samples)} samples`,
          h("span", { class: "muted" }, samples === null ? "" : ` ${percent(samples / most, 0)}, ${classes} classes`),
        ),
      ),
    ),
  );
}

/** Where test inputs leave: `[{ block, fraction }]`. */
export function exits(blocks) {
  return h(
    "ol",
    { class: "bars" },
    blocks.map(({ block, fraction }) =>
      h(
        "li",
        {},
        h("span", { class: "bar-name" }, `block ${block}`),
        bar(fraction, `block${((block - 1) % 8) + 1}`),
        h("span", { class: "bar-value" }, percent(fraction)),
      ),
    ),
  );
}
