// Parallel coordinates: a line a run of a sweep, over its values and what came of them.

import { once, s } from "../dom.js";
import { cut, percent } from "../format.js";

const HEIGHT = 280,
  TOP = 40,
  BOTTOM = 30,
  SIDE = 54;

/** Where a value lies on an axis, from 0 below to 1 above. */
function place(axis, value) {
  if (value === null || value === undefined) return null;
  if (axis.words) return axis.words.length < 2 ? 0.5 : axis.words.indexOf(value) / (axis.words.length - 1);
  return axis.high > axis.low ? (value - axis.low) / (axis.high - axis.low) : 0.5;
}

function axisOf({ title, values, text }) {
  const known = values.filter((value) => value !== null && value !== undefined);
  const numbers = known.map(Number);
  const show = text ?? ((value) => String(value));
  if (text || (known.length && numbers.every(Number.isFinite))) {
    const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
    return {
      title,
      low,
      high,
      of: (value) => (value === null || value === undefined ? null : Number(value)),
      show,
      ticks: known.length ? (low === high ? [low] : [low, high]) : [],
    };
  }
  const words = [...new Set(known)].sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true }));
  return { title, words, of: (value) => value, show, ticks: words.length <= 8 ? words : [words[0], words.at(-1)] };
}

/** The picture; `update(runs)` with `[{ id, name, values: {}, accuracy, efficiency }]`. */
export function parallel(holder, open) {
  let runs = [];
  const draw = once(() => {
    if (!holder.isConnected) return;
    const fields = [...new Set(runs.flatMap((run) => Object.keys(run.values)))].sort();
    const axes = [
      ...fields.map((field) => ({
        ...axisOf({ title: field, values: runs.map((run) => run.values[field]) }),
        pick: (run) => run.values[field],
      })),
      {
        ...axisOf({ title: "validation", values: runs.map((run) => run.accuracy), text: (value) => percent(value, 1) }),
        pick: (run) => run.accuracy,
      },
      {
        ...axisOf({
          title: "efficiency",
          values: runs.map((run) => run.efficiency),
          text: (value) => `${value.toFixed(2)}×`,
        }),
        pick: (run) => run.efficiency,
      },
    ];
    const width = Math.max(holder.clientWidth, axes.length * 96 + SIDE);
    const x = (index) => SIDE + (index * (width - 2 * SIDE)) / Math.max(1, axes.length - 1);
    const y = (share) => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    const picture = s("svg", {
      class: "parallel",
      viewBox: `0 0 ${width} ${HEIGHT}`,
      width,
      height: HEIGHT,
      role: "group",
      "aria-label": "Runs of the sweep",
    });
    const best = Math.max(...runs.map((run) => run.accuracy ?? -1));
    for (const run of [...runs].sort((a, b) => (a.accuracy ?? -1) - (b.accuracy ?? -1))) {
      const points = axes
        .map((axis, index) => [x(index), place(axis, axis.of(axis.pick(run)))])
        .filter(([, share]) => share !== null);
      const line = points
        .map(([x, share], index) => `${index ? "L" : "M"}${x.toFixed(1)} ${y(share).toFixed(1)}`)
        .join("");
      const go = () => open(run.id);
      picture.append(
        s(
          "path",
          {
            d: line || "M0 0",
            class: run.accuracy === best && best >= 0 ? "run best" : "run",
            tabindex: "0",
            role: "link",
            onclick: go,
            onkeydown: (event) => event.key === "Enter" && go(),
            "aria-label": `${run.name}: ${percent(run.accuracy)}`,
          },
          s("title", {}, `${run.name}: ${percent(run.accuracy)}`),
        ),
      );
    }
    axes.forEach((axis, index) => {
      picture.append(
        s(
          "g",
          { class: "axis" },
          s("path", { d: `M${x(index)} ${TOP}V${HEIGHT - BOTTOM}` }),
          s(
            "text",
            { x: x(index), y: 18, "text-anchor": "middle", class: "title" },
            s("title", {}, axis.title),
            cut(axis.title, 18),
          ),
          axis.ticks.map((tick) =>
            s(
              "text",
              { x: x(index) - 7, y: y(place(axis, tick)) + 4, "text-anchor": "end", class: "tick" },
              cut(axis.show(tick), 12),
            ),
          ),
        ),
      );
    });
    holder.replaceChildren(picture);
  });
  new ResizeObserver(draw).observe(holder);
  return {
    update(next) {
      runs = next;
      draw();
    },
  };
}
