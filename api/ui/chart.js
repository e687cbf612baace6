// A chart of days: price and cost.

import uPlot from "./vendor/uPlot.esm.js";

/** Draws rows { day, price, cost } into an element. Returns what removes it. */
export function daysChart(element, rows, format) {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  let plot = null;
  const data = [rows.map((row) => Date.parse(row.day) / 1000), rows.map((row) => row.price), rows.map((row) => row.cost)];
  const bars = (gap) => uPlot.paths.bars({ size: [gap, 42], radius: 0.15 });
  function draw() {
    plot?.destroy();
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    const days = data[0];
    const pad = 43_200;
    plot = new uPlot({
      width: element.clientWidth, height: 200, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      scales: { x: { range: () => [days[0] - pad * 3, days.at(-1) + pad * 3] }, y: { range: (_, low, high) => [0, high * 1.1 || 1] } },
      axes: [{ ...axis, size: 30, grid: { show: false }, incrs: [86_400, 172_800, 604_800, 1_209_600, 2_592_000], values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toLocaleDateString(undefined, { day: "numeric", month: "short", timeZone: "UTC" })) },
        { ...axis, size: 76, values: (_, ticks) => ticks.map(format) }],
      legend: { show: false }, cursor: { show: false },
      series: [{}, { label: "Price", fill: colour("--inbound"), stroke: colour("--inbound"), width: 0, paths: bars(0.6), points: { show: false } },
        { label: "Cost", fill: colour("--outbound"), stroke: colour("--outbound"), width: 0, paths: bars(0.35), points: { show: false } }],
    }, data, element);
  }
  draw();
  const resized = new ResizeObserver(() => plot && element.clientWidth && plot.setSize({ width: element.clientWidth, height: 200 }));
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
