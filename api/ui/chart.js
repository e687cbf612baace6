// Chart of price and cost by day.

const LABEL_PX = 70; // width of a day's label

import uPlot from "./vendor/uPlot.esm.js";

const DAY_S = 86_400;

/**
 * Draws rows { day, price, cost } into an element, over the days from `from` to `to` (YYYY-MM-DD; if empty, the days of the first and
 * the last row). Returns a function that removes the chart.
 */
export function daysChart(element, rows, { from, to }, format) {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let plot = null;
  const data = [rows.map((row) => Date.parse(row.day) / 1000), rows.map((row) => row.price), rows.map((row) => row.cost)];
  const bars = (gap) => uPlot.paths.bars({ size: [gap, 42], radius: 0.15 });
  function draw() {
    plot?.destroy();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const [first, last] = [from || rows[0].day, to || rows.at(-1).day].map((day) => Date.parse(day) / 1000);
    const all = Math.round((last - first) / DAY_S) + 1;
    // A label for every day, or for every second, third … day, as the width allows.
    const every = Math.ceil(all / Math.max(1, Math.floor(element.clientWidth / LABEL_PX)));
    const labels = Array.from({ length: Math.ceil(all / every) }, (_, index) => first + index * every * DAY_S);
    plot = new uPlot({
      width: element.clientWidth, height: 200, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      scales: { x: { range: () => [first - DAY_S / 2, last + DAY_S / 2] }, y: { range: (_, low, high) => [0, high * 1.1 || 1] } },
      axes: [{ ...axis, size: 30, grid: { show: false }, splits: () => labels, values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toLocaleDateString(undefined, { day: "numeric", month: "short", timeZone: "UTC" })) },
        { ...axis, size: 76, values: (_, ticks) => ticks.map(format) }],
      legend: { show: false }, cursor: { show: false },
      series: [{}, { label: "Price", fill: colour("--inbound"), stroke: colour("--inbound"), width: 0, paths: bars(0.6), points: { show: false } },
        { label: "Cost", fill: colour("--outbound"), stroke: colour("--outbound"), width: 0, paths: bars(0.35), points: { show: false } }],
    }, data, element);
  }
  draw();
  const resized = new ResizeObserver(() => plot && element.clientWidth && draw());
  resized.observe(element);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  window.addEventListener("theme", draw);
  scheme.addEventListener("change", draw);
  return () => {
    resized.disconnect();
    window.removeEventListener("theme", draw);
    scheme.removeEventListener("change", draw);
    plot.destroy();
  };
}
