// Page of all calls: live calls above, finished calls below, loaded while the user scrolls.

import { get } from "../api.js";
import { fill, h, icon, problem } from "../dom.js";
import { callFilters, forApi, passes, withFilters } from "../filters.js";
import { count, dayEnd, dayStart, plural, zone } from "../format.js";
import { animate, watch } from "../live.js";
import { matchesNumber, searchDigits } from "../numbers.js";
import { shortcuts } from "../shortcuts.js";
import { LiveRow, STATUS_NAMES, finishedRow, keyOf } from "./rows.js";

const STATUSES = [["", "All"], ...Object.entries(STATUS_NAMES).filter(([value]) => value !== "live")];
const PAGE = 50; // small, to load quickly
const NEXT_PAGE = 200; // for users who scroll
const LIVE_SHOWN = 100;
const CHUNK = 50; // rows that the browser lays out together, or not at all while they are out of view
const ROW_PX = 55;

export function render(root, { who, go, params }) {
  const tenants = who.tenant === null;
  let filter = { q: params.get("q") ?? "", status: params.get("status") ?? "", since: params.get("since") ?? "", until: params.get("until") ?? "" };
  const live = new Map();
  const hidden = new Set(); // live calls beyond LIVE_SHOWN
  const known = new Map(); // rows of finished calls
  const late = []; // calls that changed while a page of the list was loading, which may lack the change
  let loading = null;
  let cursor = null;
  let ended = false;

  const search = h("input", { id: "filter-q", type: "search", placeholder: "Number or call id", value: filter.q, autocomplete: "off", spellcheck: "false" });
  const status = h("select", { id: "filter-status" }, STATUSES.map(([value, text]) => h("option", { value, selected: value === filter.status }, text)));
  const since = h("input", { id: "filter-since", type: "date", value: filter.since });
  const until = h("input", { id: "filter-until", type: "date", value: filter.until });
  const narrowing = callFilters(["text", "carrier", tenants && "tenant", "min_duration_s", "max_duration_s"].filter(Boolean), params, apply);
  const liveCount = h("span", { class: "count" }, "0");
  const connection = h("span", { class: "connection", role: "status" });
  const liveList = h("ul", { class: "rows live-rows", "aria-label": "Live calls" });
  const quiet = h("p", { class: "muted quiet" }, "No live calls.");
  const others = h("p", { class: "muted quiet", hidden: true });
  const list = h("div", { class: "rows", role: "list", "aria-label": "Finished calls" });
  const more = h("div", { class: "more" });

  root.append(
    h("h1", { class: "sr" }, "Calls"),
    h("section", { class: "card", "aria-labelledby": "live-title" },
      h("div", { class: "section-head" }, h("h2", { id: "live-title" }, "Live", " ", liveCount), connection), quiet, liveList, others),
    h("section", { class: "card", "aria-labelledby": "finished-title" },
      h("div", { class: "section-head" },
        h("h2", { id: "finished-title" }, "Finished"),
        h("form", { class: "filters", role: "search", "aria-label": "Filter calls", onsubmit: (event) => (event.preventDefault(), apply()) },
          h("span", { class: "field search-field" }, icon("search"), h("label", { class: "sr", for: "filter-q" }, "Number or call id"), search, h("kbd", { "aria-hidden": "true" }, "/")),
          h("span", { class: "field" }, h("label", { for: "filter-status" }, "Status"), status),
          h("span", { class: "field" }, h("label", { for: "filter-since" }, "From"), since),
          h("span", { class: "field" }, h("label", { for: "filter-until" }, "To"), until),
          narrowing.element,
          h("span", { class: "muted small zone" }, `Days and times: ${zone}`))),
      h("div", { class: "row row-head", "aria-hidden": "true" },
        h("span", { class: "cell-when" }, "Started"), h("span", { class: "who-calls" }, "Caller and callee"), h("span", { class: "cell-carrier" }, "Carrier"),
        tenants && h("span", { class: "cell-tenant" }, "Tenant"), h("span", { class: "steps" }, "Status"), h("span", { class: "cell-gap" }), h("span", { class: "cell-duration" }, "Length")),
      list, more),
    h("p", { class: "hints muted small" }, h("kbd", {}, "/"), " search, ", h("kbd", {}, "j"), " ", h("kbd", {}, "k"), " move, ", h("kbd", {}, "Enter"), " opens, ", h("kbd", {}, "?"), " lists all shortcuts"),
  );
  root.classList.toggle("with-tenants", tenants);

  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(apply, 250); });
  for (const field of [status, since, until]) field.addEventListener("change", apply);

  function apply() {
    clearTimeout(typing);
    filter = { q: search.value.trim(), status: status.value, since: since.value, until: until.value, ...narrowing.values() };
    history.replaceState(null, "", withFilters("/", filter));
    load(true);
  }

  async function load(anew) {
    if (!anew && (loading || ended)) return;
    loading?.abort();
    const own = (loading = new AbortController());
    fill(more, h("span", { class: "muted", role: "status" }, "Loading…"));
    try {
      const page = await get("/v1/calls", { ...forApi(filter), limit: anew ? PAGE : NEXT_PAGE, cursor: anew ? null : cursor }, own.signal);
      if (own !== loading) return;
      if (anew) { list.replaceChildren(); known.clear(); }
      for (const call of page.calls) if (call.status !== "live") place(call, true);
      cursor = page.next_cursor;
      ended = cursor === null;
      const empty = !known.size && (Object.values(filter).some(Boolean) ? "No call matches this filter." : "No finished calls yet. When one ends, it appears here.");
      fill(more, ended ? h("span", { class: "muted", role: "status" }, empty || plural(known.size, "call")) : h("button", { class: "button", onclick: () => load(false) }, "More"));
      loading = null;
      late.splice(0).forEach(changed);
      if (!ended && near()) load(false);
    } catch (error) {
      if (error.name === "AbortError" || own !== loading) return;
      loading = null;
      fill(more, problem(error, () => load(anew)));
    }
  }

  const near = () => more.getBoundingClientRect().top < innerHeight + 600;
  const seen = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && load(false), { rootMargin: "600px" });
  seen.observe(more);

  /** Shows a finished call: replaces its row, or adds a row at the end or at its position, newest first. */
  function place(call, last = false) {
    const row = finishedRow(call, { tenants });
    const old = known.get(keyOf(call));
    const after = old || last ? null : [...list.querySelectorAll(".row-item")].find((one) => Number(one.dataset.started) <= call.started_at_ms);
    if (!old && !last && !after && !ended) return; // older than the loaded pages: its own page will show it
    known.set(keyOf(call), row);
    if (old) {
      const focused = old.contains(document.activeElement);
      old.replaceWith(row);
      if (focused) row.querySelector("a").focus();
    } else if (after) after.before(row);
    else chunk().append(row);
  }

  /** Returns the chunk for the next row. Without chunks the browser would check every row in every frame. */
  function chunk() {
    const last = list.lastElementChild;
    if (last && last.childElementCount < CHUNK) return last;
    const next = h("div", { class: "chunk", role: "none" });
    next.style.containIntrinsicSize = `auto ${CHUNK * ROW_PX}px`;
    list.append(next);
    return next;
  }

  function fits(call) {
    if (filter.text && !known.has(keyOf(call))) return false; // only the server knows what was said
    if (!passes(call, filter)) return false;
    if (filter.status && call.status !== filter.status) return false;
    if (filter.since && call.started_at_ms < dayStart(filter.since)) return false;
    if (filter.until && call.started_at_ms >= dayEnd(filter.until)) return false;
    const text = `${call.id}\n${call.from_number}\n${call.to_number}`.toLowerCase();
    const digits = searchDigits(filter.q);
    return text.includes(filter.q.toLowerCase()) || matchesNumber(call.from_number, digits) || matchesNumber(call.to_number, digits);
  }

  /** Shows a new or changed call. */
  function changed(call) {
    if (loading) late.push(call);
    const key = keyOf(call);
    const row = live.get(key);
    if (call.status === "live") {
      if (row) row.call = call;
      else if (live.size >= LIVE_SHOWN) hidden.add(key);
      else {
        hidden.delete(key);
        const created = new LiveRow(call, { tenants });
        live.set(key, created);
        liveList.prepend(created.element);
      }
    } else {
      hidden.delete(key);
      if (row) { row.element.remove(); live.delete(key); }
      if (known.has(key) && !filter.status) place(call);
      else if (known.has(key) && !fits(call)) { known.get(key).remove(); known.delete(key); }
      else if (fits(call)) place(call);
    }
    liveCount.textContent = count(live.size + hidden.size);
    quiet.hidden = live.size > 0;
    others.hidden = hidden.size === 0;
    others.textContent = `${plural(hidden.size, "other call is", "other calls are")} live and not shown here.`;
  }

  /** Catches up after a broken connection: the server sends the live calls, and the list has the calls that ended meanwhile. */
  function catchUp() {
    live.forEach((row) => row.element.remove());
    live.clear();
    hidden.clear();
    get("/v1/calls", { ...forApi(filter), limit: PAGE }).then((page) => page.calls.forEach(changed), () => null);
  }

  let broken = false;
  const stopWatching = watch({
    call: changed,
    levels(levels) {
      for (const one of levels) live.get(`${one.tenant}\u0000${one.call_id}`)?.meter.push(one.track, one.levels_db);
    },
    state(open) {
      connection.textContent = open ? "" : "Connecting…";
      if (open && broken) catchUp();
      broken = !open;
    },
  });
  const stopAnimating = animate(() => [...live.values()].map((row) => row.meter));
  const ticking = setInterval(() => live.forEach((row) => row.run(Date.now())), 500);

  function move(step) {
    const rows = [...root.querySelectorAll(".row-item > a")];
    const at = rows.indexOf(document.activeElement);
    const next = rows[at === -1 ? 0 : Math.min(rows.length - 1, Math.max(0, at + step))];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }
  const stopKeys = shortcuts([
    { keys: ["/"], text: "Filter by number, id or words", run: () => { search.focus(); search.select(); } },
    { keys: ["j", "k"], text: "Next or previous call", run: (key) => move(key === "j" ? 1 : -1) },
    { keys: ["Enter"], text: "Open the call" },
  ]);
  Object.assign(filter, narrowing.values());
  load(true);

  return () => {
    loading?.abort();
    stopWatching();
    stopAnimating();
    clearInterval(ticking);
    seen.disconnect();
    stopKeys();
  };
}
