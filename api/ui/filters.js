// Filters of calls that several pages have. Their names in the address are those of the API.

import { h } from "./dom.js";
import { dayEnd, dayStart } from "./format.js";

export const CARRIERS = ["audiosocket", "exotel", "jambonz", "plivo", "signalwire", "telnyx", "twilio", "vonage"];
const TYPING_MS = 400; // pause after which typed words apply

const FIELDS = {
  text: { label: "Words said", type: "search", placeholder: "Transcript, summary", maxlength: 200 },
  number: { label: "Number", type: "search", placeholder: "Of either party", maxlength: 100 },
  since: { label: "From", type: "date" },
  until: { label: "To", type: "date" },
  carrier: { label: "Carrier", options: CARRIERS },
  tenant: { label: "Tenant", type: "search", placeholder: "All", maxlength: 500 },
  min_duration_s: { label: "At least (s)", type: "number", min: 0, step: 1 },
  max_duration_s: { label: "At most (s)", type: "number", min: 0, step: 1 },
};

/**
 * Creates the fields of some filters, which a button shows and hides. params: of the address. changed(): a filter has another value.
 * Returns `element` and `values()`, which are the filters that are set.
 */
export function callFilters(names, params, changed, title = "More filters") {
  const fields = Object.fromEntries(names.map((name) => [name, field(FIELDS[name], name, params.get(name) ?? "")]));
  const number = h("span", { class: "count" });
  const values = () => Object.fromEntries(names.map((name) => [name, fields[name].value.trim()]).filter(([, value]) => value));
  const clear = h("button", { class: "button", type: "button", onclick: () => { for (const one of Object.values(fields)) one.value = ""; apply(); } }, "Clear");
  const element = h("details", { class: "more-filters", open: Object.keys(values()).length > 0 },
    h("summary", { class: "button" }, `${title} `, number),
    h("div", { class: "filters" }, names.map((name) => h("span", { class: "field" }, h("label", { for: `filter-${name}` }, FIELDS[name].label), fields[name])), clear));
  let typing = 0;
  for (const name of names) {
    fields[name].addEventListener("change", apply);
    if (name === "text") fields[name].addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(apply, TYPING_MS); });
  }
  let before = JSON.stringify(values());
  count();

  function apply() {
    clearTimeout(typing);
    const now = JSON.stringify(values());
    if (now === before) return;
    before = now;
    count();
    changed();
  }
  function count() {
    const set = Object.keys(values()).length;
    number.textContent = set;
    number.hidden = clear.hidden = set === 0;
    number.setAttribute("aria-label", `${set} set`);
  }
  return { element, values };
}

function field({ label: _, options, ...attributes }, name, value) {
  const id = `filter-${name}`;
  if (!options) return h("input", { id, value, autocomplete: "off", ...attributes });
  return h("select", { id }, ["", ...options].map((one) => h("option", { value: one, selected: one === value }, one || "All")));
}

/** Returns filters as the API takes them: days of the viewer's time zone become points in time. Pure. */
export function forApi(filters) {
  const moment = (text, find) => (text && (Number.isNaN(find(text)) ? text : find(text)));
  return { ...filters, since: moment(filters.since, dayStart), until: moment(filters.until, dayEnd) };
}

/** Returns the address of a page with these filters. Pure. */
export function withFilters(path, filters) {
  const query = new URLSearchParams(Object.entries(filters).filter(([, value]) => value));
  return query.size ? `${path}?${query}` : path;
}

/** True if a call passes the filters by carrier, tenant and duration. Pure. */
export function passes(call, filters) {
  return (!filters.carrier || call.carrier === filters.carrier) && (!filters.tenant || call.tenant === filters.tenant)
    && (!filters.min_duration_s || call.duration_ms >= 1000 * filters.min_duration_s)
    && (!filters.max_duration_s || call.duration_ms <= 1000 * filters.max_duration_s);
}
