// Test images of every exit of a completed run, with what each block that ran said.

import { get } from "../api.js";
import { h, put, show } from "../dom.js";
import { count, percent } from "../format.js";

/** Base64, and nothing else: what is no image shows none. */
const PLAIN = /^[A-Za-z0-9+/=]+$/;

function figure(sample, name) {
  const right = sample.answer === sample.label;
  const sure = (value) => percent(value, 0).replace(" ", "\u00a0");
  const lines = sample.said.map((said) =>
    h(
      "li",
      {
        class: said.class === sample.label ? "right" : "wrong",
        title: said.hard ? `P(hard) ${sure(said.hard)}` : null,
      },
      h("span", { class: "muted" }, `${said.block} `),
      name(said.class),
      h("span", { class: "muted" }, ` ${sure(said.confidence)}`),
    ),
  );
  const picture = PLAIN.test(sample.png)
    ? h("img", { src: `data:image/png;base64,${sample.png}`, alt: `test image ${sample.id}` })
    : h("span", { class: "quiet" }, "no image");
  return h(
    "figure",
    { class: right ? "sample right" : "sample wrong" },
    picture,
    h(
      "figcaption",
      {},
      h("strong", {}, name(sample.label)),
      h("ol", { "aria-label": "Blocks that ran" }, lines),
      h("span", {}, `${right ? "✓" : "✗"} ${name(sample.answer)} ${sure(sample.probability)}`),
    ),
  );
}

export function samples(id) {
  const list = h("div", { class: "stack" });
  const element = h(
    "section",
    { class: "card", hidden: true },
    h("h2", {}, "Samples by exit"),
    h(
      "p",
      { class: "muted" },
      "Test images with their true class, what each block that ran held most probable, and the answer.",
    ),
    list,
  );
  let asked = false;

  async function load(classes) {
    let found;
    try {
      found = await get(`/runs/${encodeURIComponent(id)}/samples`);
    } catch (refused) {
      // Programs of before picked none.
      asked = refused.status === 404;
      return;
    }
    const name = (label) => classes[label] ?? String(label);
    put(
      list,
      found.exits
        .filter((exit) => exit.answered > 0)
        .map((exit) =>
          h(
            "div",
            {},
            h("h3", {}, `Behind block ${exit.block}`),
            h(
              "p",
              { class: "muted" },
              `${count(exit.answered, "test image")}, ${percent(exit.right / exit.answered, 1)} answered rightly`,
            ),
            h(
              "div",
              { class: "samples" },
              exit.samples.map((sample) => figure(sample, name)),
            ),
          ),
        ),
    );
    show(element, found.exits.length > 0);
  }

  return {
    element,
    update(run, detail) {
      if (asked || !run.summary) return;
      asked = true;
      load(detail.classes);
    },
  };
}
