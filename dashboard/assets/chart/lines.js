// Curves by uPlot: one line a series over a shared axis, drawn anew when the theme or the size changes.

import { colour, h, once, say } from "../dom.js";

/** The colour of a block, by its number from 1. */
export const ofBlock = (block) => colour(`--c${((block - 1) % 8) + 1}`);

/**
 * A chart. `title`, `unit(value)` for the axis and the readout, `x(value)` for the lower axis. `update({ x, series })`
 * with `series: [{ name, block, values, dashed, points }]`; `values` line up with `x`, `null` where there is none.
 */
export function lines({
  title,
  unit,
  xLabel,
  xText = (value) => String(value),
  height = 190,
  range,
  onlyPoints = false,
  summary,
}) {
  const reading = h("span", { class: "reading" });
  const holder = h("div", { class: "plot" });
  const note = h("p", { class: "quiet", hidden: true }, "No values yet.");
  const element = h("figure", { class: "chart" }, h("figcaption", {}, h("span", {}, title), reading), holder, note);
  let data = null,
    plot = null,
    shape = "";

  function options() {
    const ink = colour("--muted"),
      grid = colour("--line");
    const font = `11px ${getComputedStyle(document.body).fontFamily}`;
    const axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
    return {
      width: Math.max(180, holder.clientWidth),
      height,
      cursor: { y: false, points: { size: 7 }, focus: { prox: 24 } },
      legend: { show: false },
      scales: { x: { time: false, range: range?.x }, y: { range: range?.y ?? ((_, low, high) => padded(low, high)) } },
      axes: [
        {
          ...axis,
          size: 26,
          space: 40,
          incrs: range?.x ? undefined : [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000],
          values: (_, values) => values.map((value) => (Number.isInteger(value) || range?.x ? xText(value) : "")),
        },
        { ...axis, size: 52, space: 34, values: (_, values) => values.map((value) => unit(value)) },
      ],
      series: [
        {},
        ...data.series.map((line) => {
          const stroke = line.stroke ?? ofBlock(line.block);
          const few = line.values.filter((value) => value !== null).length < 3;
          return {
            label: line.name,
            stroke,
            width: 2,
            dash: line.dashed ? [4, 4] : undefined,
            spanGaps: true,
            points: {
              show: line.points ?? few,
              size: line.size ?? 6,
              fill: line.hollow ? colour("--surface") : stroke,
              width: line.hollow ? 2.5 : 1,
            },
            paths: line.points && onlyPoints ? () => null : undefined,
          };
        }),
      ],
      hooks: { setCursor: [(shown) => read(shown.cursor.idx)] },
    };
  }

  function padded(low, high) {
    if (low === null || high === null || !Number.isFinite(low)) return [0, 1];
    const space = (high - low || Math.abs(high) || 1) * 0.08;
    return [low >= 0 && low - space < 0 ? 0 : low - space, high + space];
  }

  /** Says the values under the cursor, or the last ones. */
  function read(index) {
    if (!data || !data.x.length) return say(reading, "");
    if (index === null || index === undefined) return say(reading, summary?.(data) ?? last());
    const values = data.series.filter((line) => line.values[index] !== null && line.values[index] !== undefined);
    const parts = values.map((line) => `${line.name} ${unit(line.values[index])}`);
    say(reading, `${xLabel} ${xText(data.x[index])}: ${parts.join(", ")}`);
  }

  function last() {
    for (const line of [...data.series].reverse()) {
      const value = [...line.values].reverse().find((value) => value !== null && value !== undefined);
      if (value !== undefined) return `${line.name} ${unit(value)}`;
    }
    return "";
  }

  const draw = once(() => {
    if (!data || !element.isConnected) return;
    const filled = data.x.length > 0;
    note.hidden = filled;
    holder.hidden = !filled;
    if (!filled) return;
    const points = data.series.map((line) => line.values.filter((value) => value !== null).length < 3);
    const now = JSON.stringify([
      data.series.map((line) => [line.name, line.block]),
      points,
      document.documentElement.dataset.theme,
    ]);
    const table = [data.x, ...data.series.map((line) => line.values)];
    if (plot && shape === now) plot.setData(table);
    else {
      plot?.destroy();
      holder.replaceChildren();
      plot = new uPlot(options(), table, holder);
      plot.root.setAttribute("aria-hidden", "true");
      shape = now;
    }
    read(null);
    holder.setAttribute("role", "img");
    holder.setAttribute("aria-label", `${title} over ${xLabel}: ${reading.textContent}`);
  });

  new ResizeObserver(() => {
    if (plot && holder.clientWidth > 0 && holder.clientWidth !== plot.width)
      plot.setSize({ width: holder.clientWidth, height });
    else draw();
  }).observe(holder);
  addEventListener("theme", draw);

  return {
    element,
    update(next) {
      data = next;
      draw();
    },
  };
}

/** Names and colours of blocks, beside charts. */
export function blockKey(blocks, more = []) {
  return h(
    "ul",
    { class: "key" },
    blocks.map((block) => h("li", {}, h("span", { class: `swatch block${((block - 1) % 8) + 1}` }), `block ${block}`)),
    more.map(({ title, kind }) => h("li", {}, h("span", { class: `stroke ${kind}` }), title)),
  );
}
