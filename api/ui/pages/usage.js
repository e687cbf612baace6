// Usage page: minutes, cost, price, and the price of a bundled service for comparison.

import { get } from "../api.js";
import { daysChart } from "../chart.js";
import { fill, h, problem } from "../dom.js";
import { callFilters, withFilters } from "../filters.js";
import { column, count, isoDay, money, plural, zone } from "../format.js";
import { shortcuts } from "../shortcuts.js";

const GROUPS = [["day", "Day"], ["tenant", "Tenant"], ["provider", "Provider"], ["kind", "Kind"]];

export function render(root, { go, who, params }) {
  const zones = [...new Set([zone, "UTC"])]; // the viewer's days, or the API's default
  const days = h("select", { id: "zone" }, zones.map((name) => h("option", { value: name, selected: name === params.get("time_zone") }, name)));
  const today = Date.now();
  const from = h("input", { id: "from", type: "date", value: params.get("from") ?? isoDay(today - 29 * 86_400_000) });
  const to = h("input", { id: "to", type: "date", value: params.get("to") ?? isoDay(today) });
  const wanted = params.get("group_by") ?? "day";
  const group = h("select", { id: "group" }, GROUPS.filter(([value]) => value !== "tenant" || who.tenant === null).map(([value, text]) => h("option", { value, selected: value === wanted }, text)));
  const narrowing = callFilters(["text", "number", "carrier", who.tenant === null && "tenant", "min_duration_s", "max_duration_s"].filter(Boolean), params, load);
  const content = h("div", { class: "usage" });
  let unchart = null;
  let loading = null;
  root.append(
    h("div", { class: "page-head" }, h("h1", {}, "Usage"),
      h("form", { class: "filters", "aria-label": "Filter usage", onsubmit: (event) => event.preventDefault() },
        h("span", { class: "field" }, h("label", { for: "from" }, "From"), from),
        h("span", { class: "field" }, h("label", { for: "to" }, "To"), to),
        h("span", { class: "field" }, h("label", { for: "group" }, "By"), group),
        h("span", { class: "field" }, h("label", { for: "zone" }, "Days in"), days),
        narrowing.element)),
    content);
  for (const field of [from, to, group, days]) field.addEventListener("change", load);
  load();

  async function load() {
    const query = { from: from.value, to: to.value, group_by: group.value, time_zone: days.value, ...narrowing.values() };
    history.replaceState(null, "", withFilters("/usage", query));
    loading?.abort();
    const own = (loading = new AbortController());
    try {
      const usage = await get("/v1/usage", query, own.signal);
      if (own !== loading) return;
      unchart?.();
      unchart = null;
      show(usage);
    } catch (error) {
      if (error.name !== "AbortError" && own === loading) fill(content, problem(error, load));
    }
  }

  function show(usage) {
    if (!usage.total.length) {
      fill(content, h("section", { class: "card" }, h("p", { class: "muted quiet top" }, Object.keys(narrowing.values()).length ? "Nothing was charged for calls in this period that pass the filters." : "Nothing was charged in this period.")));
      return;
    }
    const costs = usage.total[0].provider_cost !== undefined; // only in responses to operators
    const drawn = costs ? "Price and cost" : "Price";
    const chart = h("div", { class: "chart", role: "img", "aria-label": `${drawn} by day; the table below has the figures` });
    const title = GROUPS.find(([value]) => value === usage.group_by)?.[1] ?? usage.group_by;
    fill(content,
      usage.total.map((total) => figures(usage, total)),
      usage.group_by === "day" && h("section", { class: "card", "aria-labelledby": "chart-title" },
        h("div", { class: "section-head" }, h("h2", { id: "chart-title" }, drawn),
          costs && h("span", { class: "legend" }, h("span", { class: "key inbound" }, "Price"), h("span", { class: "key outbound" }, "Cost"))), chart),
      h("section", { class: "card", "aria-labelledby": "lines-title" }, h("div", { class: "section-head" }, h("h2", { id: "lines-title" }, `By ${title.toLowerCase()}`)), table(usage, title)),
      comparison(usage));
    if (usage.group_by === "day") {
      const currency = usage.total[0].currency;
      const rows = usage.groups.filter((row) => row.currency === currency).map((row) => ({ day: row.group, price: Number(row.price), cost: Number(row.provider_cost ?? 0) }));
      unchart = daysChart(chart, rows, { from: from.value, to: to.value }, (value) => money(String(value), currency));
    }
  }
  const stopKeys = shortcuts([{ keys: ["/"], text: "Search in all calls", run: () => go("/search") }]);
  return () => { loading?.abort(); unchart?.(); stopKeys(); };
}

function figures(usage, total) {
  const figure = (name, value, note) => h("div", { class: "figure" }, h("dt", {}, name), h("dd", {}, value, note && h("span", { class: "muted small" }, note)));
  const margin = Number(total.price) ? Math.round((100 * Number(total.margin)) / Number(total.price)) : null;
  return h("dl", { class: "figures" },
    figure("Minutes", count(Math.round(Number(usage.transcribed_minutes) * 10) / 10), plural(total.lines, "line")),
    total.provider_cost !== undefined && figure("Cost", money(total.provider_cost, total.currency), "what providers charge"),
    figure("Price", money(total.price, total.currency), total.provider_cost === undefined ? "what you pay" : "what customers pay"),
    total.margin !== undefined && figure("Margin", money(total.margin, total.currency), margin === null ? "" : `${margin} % of the price`),
    usage.bundled.slice(0, 1).map((one) => figure("Bundled elsewhere", money(one.amount, one.currency), one.name)));
}

function table(usage, title) {
  const costs = usage.total[0].provider_cost !== undefined;
  const names = [title, "Lines", "Units", "Minutes", costs && "Cost", "Price", costs && "Margin"].filter(Boolean);
  return h("div", { class: "scroll body", tabindex: 0, role: "region", "aria-labelledby": "lines-title" }, h("table", { class: "plain numbers-table" },
    h("thead", {}, h("tr", {}, names.map((name, index) => h("th", { scope: "col", class: index ? "n" : null }, name)))),
    h("tbody", {}, [...usage.groups].reverse().map((row) => h("tr", {}, h("th", { scope: "row" }, row.group || "–"),
      [count(row.lines), count(row.units), Number(row.minutes).toFixed(1), costs && column(row.provider_cost, row.currency), column(row.price, row.currency), costs && column(row.margin, row.currency)].filter((text) => text !== false).map((text) => h("td", { class: "n" }, text)))))));
}

function comparison(usage) {
  if (!usage.bundled.length) return null;
  return h("section", { class: "card", "aria-labelledby": "bundled-title" },
    h("div", { class: "section-head" }, h("h2", { id: "bundled-title" }, "What a bundled service would have charged")),
    h("div", { class: "scroll body", tabindex: 0, role: "region", "aria-labelledby": "bundled-title" }, h("table", { class: "plain" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Service"), h("th", { scope: "col", class: "n" }, "A minute"), h("th", { scope: "col", class: "n" }, "These minutes"), h("th", { scope: "col" }, "Source"))),
      h("tbody", {}, usage.bundled.map((one) => h("tr", {}, h("th", { scope: "row" }, one.name), h("td", { class: "n" }, money(one.per_minute, one.currency)), h("td", { class: "n" }, money(one.amount, one.currency)), h("td", { class: "muted" }, one.source)))))),
    h("p", { class: "muted small body" }, `For ${Number(usage.transcribed_minutes).toFixed(1)} transcribed minutes. The rates are settings (AUDIOTEXT_PRICING__BUNDLED): enter the rates of the service to compare with.`));
}
