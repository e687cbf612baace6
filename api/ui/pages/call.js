// Page of one call: player, transcript, summary, timeline and ledger.

import { address, callPath, get, send, share } from "../api.js";
import { copyText, fill, h, icon, problem, toast } from "../dom.js";
import { count, duration, fullMoment, languageName, moment, money, parties, span } from "../format.js";
import { gapList, missing } from "../gaps.js";
import { Meter, animate, watch } from "../live.js";
import { player } from "../player.js";
import { shortcuts } from "../shortcuts.js";
import { eventList, milestones } from "../timeline.js";
import { plainText, transcript } from "../transcript.js";
import { versionList } from "../versions.js";
import { steps } from "./rows.js";

export function render(root, { go, id, who, params }) {
  root.classList.add("call-page");
  const shared = share() !== null;
  const tenant = params.get("tenant"); // null: the call's id is unambiguous
  let shown = null; // the content shown, with `close()`
  let state = "";
  let closed = false;
  fill(root, h("p", { class: "muted", role: "status" }, "Loading…"));
  load();

  async function load() {
    try {
      const call = await get(callPath(id, tenant));
      if (closed) return;
      const now = JSON.stringify([call.status, call.failed_reason, call.end_reason, call.from_number, call.to_number, call.parts.map((part) => [part.artefacts, part.times, part.summary]), call.usage]);
      if (now === state) return;
      const at = shown?.position?.();
      shown?.close();
      state = now;
      document.title = `${parties(call).filter(Boolean).join(" → ")} · AudioText`;
      shown = show(root, call, { go, who, shared, params, at, reload: load });
    } catch (error) {
      if (!closed && !shown) fill(root, back(), h("div", { class: "card" }, problem(error, load)));
    }
  }

  const stop = shared ? null : watch({
    call: (call) => call.id === id && (tenant ?? call.tenant) === call.tenant && load(),
    levels: (levels) => levels.filter((one) => one.call_id === id && (tenant ?? one.tenant) === one.tenant).forEach((one) => shown?.meter?.push(one.track, one.levels_db)),
  });
  const still = animate(() => (shown?.meter ? [shown.meter] : []));
  return () => {
    closed = true;
    stop?.();
    still();
    shown?.close();
  };
}

const back = () => h("a", { class: "back", href: "/" }, icon("left"), "All calls");

const CUT_OFF = {
  idle: "AudioText ended this call: its stream was silent for too long.",
  "peer-gone": "AudioText ended this call: the carrier no longer answered.",
  "protocol-error": "AudioText ended this call: the carrier sent an invalid message.",
  "gateway-draining": "AudioText ended this call's stream because its gateway was shut down.",
};

/** Returns sentences about unusual facts of the call. */
function remarks(call) {
  const found = call.end_reason in CUT_OFF ? [CUT_OFF[call.end_reason]] : [];
  if (call.repairs.length) found.push(`The carrier sent damaged text, which was repaired (${call.repairs.join(", ")}).`);
  return found;
}

function show(root, call, { go, who, shared, params, at, reload }) {
  const numbers = [...new Set(call.parts.map((part) => part.part))];
  let number = Number(params.get("part")) || numbers[0] || 1;
  const closers = [];
  const [from, to] = parties(call);
  const main = h("div", { class: "call-main" });
  const side = h("aside", { class: "call-side", "aria-label": "About this call" });
  const stage = h("section", { class: "card player-card", "aria-label": "Recording" });
  const meter = call.status === "live" ? new Meter() : null;

  fill(root,
    !shared && back(),
    h("header", { class: "call-head" },
      h("div", { class: "call-title" },
        h("h1", {}, from, to && h("span", { class: "to" }, icon("arrow"), h("span", { class: "sr" }, " to "), to)),
        h("p", { class: "muted facts" },
          h("span", {}, fullMoment(call.started_at_ms)), call.duration_ms > 0 && h("span", {}, duration(call.duration_ms)), h("span", {}, call.carrier),
          who.tenant === null && h("span", {}, call.tenant), to && h("span", { class: "mono id" }, call.id))),
      h("div", { class: "call-actions" }, steps(call), downloads(call), !shared && who.via !== "kratos" && shareButton(call))),
    call.status === "failed" && h("div", { class: "problem", role: "alert" }, icon("warn"), h("p", {}, `${stageName(call.failed_stage)} failed: ${call.failed_reason}`)),
    remarks(call).map((text) => h("p", { class: "muted small remark" }, icon("warn"), text)),
    stage,
    h("div", { class: "columns" }, main, side));

  if (meter) fill(stage, h("div", { class: "live-stage" }, h("span", { class: "live-mark" }, h("i", { class: "dot", "aria-hidden": "true" }), "Live"), meter.canvas,
    h("p", { class: "muted" }, "This call goes on. Recording, transcript and summary appear here when it ends.")));

  let playing = null;
  let words = null;
  showPart(number, at ?? (params.has("t") ? Number(params.get("t")) * 1000 : null), params.get("play") === "1");
  showSide();

  function showSide() {
    fill(side, summaryCard(call), gapsCard(), timelineCard(), versionsCard(), !shared && ledgerCard(call));
  }

  function versionsCard() {
    if (shared || !part()?.artefacts.transcript) return null;
    return card("Versions", versionList(call, number, reload));
  }

  function part() {
    return call.parts.find((one) => one.part === number) ?? null;
  }

  function showPart(which, startMs, play) {
    number = which;
    playing?.close();
    playing = words = null;
    const found = part();
    if (!meter) {
      if (found?.artefacts.recording) {
        playing = player({
          recording: callPath(call.id, call.tenant, "/recording", { part: number }), part: found,
          waveform: get(callPath(call.id, call.tenant, "/waveform", { part: number })),
          on: { time: (ms) => words?.at(ms, Boolean(playing && !playing.audio.paused)), link: copyLink },
        });
        fill(stage, numbers.length > 1 && partTabs(), playing.element);
        if (startMs !== null) playing.seek(startMs, play);
      } else fill(stage, h("p", { class: "muted quiet" }, call.status === "failed" ? "There is no recording." : "The recording is being made."));
    }
    showWords(found);
  }

  function partTabs() {
    return h("div", { class: "parts", role: "group", "aria-label": "Parts of the call" }, numbers.map((one) =>
      h("button", { class: "button", "aria-pressed": one === number, onclick: () => { showPart(one, null, false); showSide(); } }, `Part ${one}`)));
  }

  async function showWords(found) {
    const box = h("section", { class: "card", "aria-labelledby": "transcript-title" },
      h("div", { class: "section-head" }, h("h2", { id: "transcript-title" }, "Transcript"), found?.language && h("span", { class: "muted small" }, languageName(found.language))));
    const head = box.firstChild;
    fill(main, box);
    if (!found?.artefacts.transcript) {
      box.append(h("p", { class: "muted quiet" }, waiting(call, "transcribe", "The transcript")));
      return;
    }
    try {
      const text = await get(callPath(call.id, call.tenant, "/transcript", { part: found.part }));
      if (found.part !== number) return;
      words = transcript(text, (ms) => playing?.seek(ms, true));
      if (text.segments.length) head.append(h("button", { class: "button", onclick: () => copyText(plainText(text), "Transcript copied") }, icon("copy"), "Copy"));
      box.append(text.segments.length || text.omitted.length ? words.element : h("p", { class: "muted quiet" }, "Nothing was said."));
      if (playing) {
        words.at(playing.audio.currentTime * 1000, false);
        if (params.has("t")) words.turnBefore(playing.audio.currentTime * 1000)?.scrollIntoView({ block: "center" });
      }
    } catch (error) {
      box.append(problem(error, () => showWords(found)));
    }
  }

  function gapsCard() {
    const tracks = part()?.tracks ?? [];
    if (!tracks.length) return null;
    return card("Tracks", h("table", { class: "plain" },
      h("thead", { class: "sr" }, h("tr", {}, h("th", {}, "Track"), h("th", {}, "Audio"), h("th", {}, "Missing"))),
      h("tbody", {}, tracks.map((track) =>
        h("tr", {}, h("th", { scope: "row", class: track.name }, track.name), h("td", {}, `${duration(track.audio_ms)} of audio`),
          h("td", {}, track.gap_summary.count ? h("span", { class: "badge warn" }, missing(track.gap_summary)) : h("span", { class: "badge good" }, "no gaps")))))),
      tracks.map((track) => gapList(track, (ms) => playing?.seek(ms, true))),
      tracks.filter((track) => track.mixed_ms > 0).map((track) => h("p", { class: "muted small" }, `${track.name}: several streams sounded at the same time for ${span(track.mixed_ms)}; they are mixed.`)));
  }

  function timelineCard() {
    const events = h("div", {});
    const more = !shared && h("details", { class: "all-events", ontoggle: async (event) => {
      if (!event.target.open || events.childElementCount) return;
      try {
        fill(events, eventList((await get(callPath(call.id, call.tenant, "/events"))).events));
      } catch (error) {
        fill(events, problem(error));
      }
    } }, h("summary", {}, "All events"), events);
    return card("Timeline", milestones(call, part()), more);
  }

  /** Copies the address of this page at the player's position, with all that is needed to open it. */
  function copyLink() {
    const link = new URL(location);
    const ms = playing ? playing.audio.currentTime * 1000 : 0;
    link.searchParams.delete("play");
    link.searchParams.set("part", number);
    link.searchParams.set("t", (Math.floor(ms / 100) / 10).toString());
    copyText(link.href, `Link to ${duration(ms)} copied`);
  }

  function turn(step) {
    const start = playing && words?.turnStart(playing.audio.currentTime * 1000, step);
    if (start == null) return;
    playing.seek(start);
    words.turnBefore(start)?.scrollIntoView({ block: "nearest" });
  }

  closers.push(shortcuts([
    { keys: [" "], text: "Play or pause", run: () => playing?.toggle() },
    { keys: ["ArrowLeft", "ArrowRight"], text: "Back or forward 5 seconds", run: (key) => playing?.step(key === "ArrowLeft" ? -5 : 5) },
    { keys: ["<", ">"], text: "Slower or faster", run: (key) => playing && toast(`Speed ${playing.faster(key === "<" ? -1 : 1)}×`) },
    { keys: ["j", "k"], text: "Next or previous turn", run: (key) => turn(key === "j" ? 1 : -1) },
    { keys: ["c"], text: "Copy a link to this time", run: () => playing && copyLink() },
    !shared && { keys: ["/"], text: "Search in all calls", run: () => go("/search") },
  ].filter(Boolean)));
  return {
    meter,
    position: () => (playing ? playing.audio.currentTime * 1000 : null),
    close() {
      playing?.close();
      closers.forEach((end) => end());
    },
  };
}

const stageName = (stage) => ({ recorder: "Recording", transcribe: "Transcription", summarize: "The summary", embed: "The search index" })[stage] ?? stage;

function waiting(call, stage, what) {
  if (call.status === "failed") return `${what} is not available: ${stageName(call.failed_stage).toLowerCase()} failed.`;
  return call.status === "live" ? `${what} follows when the call has ended.` : `${what} is being made.`;
}

const card = (title, ...content) => h("section", { class: "card side-card" }, h("h2", {}, title), ...content);

function summaryCard(call) {
  const short = call.summary;
  if (!short) return card("Summary", h("p", { class: "muted" }, waiting(call, "summarize", "The summary")));
  const actions = short.actions?.length ? short.actions.map((one) => (one.owner ? `${one.text} (${one.owner})` : one.text)) : short.action_items;
  const list = (title, items) => items?.length > 0 && [h("h3", {}, title), h("ul", { class: "bullets" }, items.map((item) => h("li", {}, item)))];
  return card("Summary",
    h("p", { class: "abstract" }, short.abstract),
    short.outcome && [h("h3", {}, "Outcome"), h("p", {}, short.outcome)],
    short.topics?.length > 0 && [h("h3", {}, "Topics"), h("p", { class: "topics" }, short.topics.map((topic) => h("span", { class: "badge" }, topic)))],
    list("Key points", short.key_points),
    list("Action items", actions),
    short.sentiment?.length > 0 && [h("h3", {}, "Sentiment"), h("p", { class: "topics" }, short.sentiment.map((one) => h("span", { class: "badge" }, `${one.speaker}: ${one.sentiment}`)))]);
}

function ledgerCard(call) {
  if (!call.usage.length) return card("Ledger", h("p", { class: "muted" }, "No ledger lines yet."));
  const costs = call.usage.some((line) => line.provider_cost != null); // only in responses to operators
  return card("Ledger", h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Ledger lines" }, h("table", { class: "plain numbers-table" },
    h("thead", {}, h("tr", {}, ["Kind", "Units", costs && "Cost", "Price"].filter(Boolean).map((name, index) => h("th", { class: index ? "n" : null }, name)))),
    h("tbody", {}, call.usage.map((line) => h("tr", { title: line.key },
      h("th", { scope: "row" }, line.kind, h("span", { class: "ledger-facts muted small" }, `${line.provider} ${line.model}, `, h("time", { datetime: new Date(line.charged_at_ms).toISOString() }, fullMoment(line.charged_at_ms)))),
      h("td", { class: "n" }, count(line.units)), costs && h("td", { class: "n" }, money(line.provider_cost, line.currency)), h("td", { class: "n" }, money(line.price, line.currency))))))));
}

function downloads(call) {
  const path = (below, params) => address(callPath(call.id, call.tenant, below, params));
  const name = call.id.replace(/[^\w.-]+/g, "_");
  const links = [];
  if (call.artefacts.recording) {
    for (const part of call.parts.filter((one) => one.artefacts.recording)) {
      links.push(["WAV" + (call.parts.length > 1 ? ` part ${part.part}` : ""), path("/recording", { part: part.part }), `${name}${part.part > 1 ? `-part${part.part}` : ""}.wav`]);
    }
  }
  if (call.artefacts.transcript) for (const format of ["txt", "srt", "vtt", "json"]) links.push([format.toUpperCase(), path("/transcript", { format }), `${name}.${format}`]);
  if (!links.length) return null;
  return menu([icon("down"), "Download"], links.map(([text, href, file]) => h("a", { href, download: file }, text)));
}

function menu(title, items) {
  const box = h("details", { class: "menu", onkeydown: (event) => { if (event.key === "Escape") { box.open = false; box.firstChild.focus(); } }, onclick: (event) => { if (event.target.closest("a")) box.open = false; } },
    h("summary", { class: "button" }, title), h("div", { class: "menu-items" }, items));
  return box;
}

function shareButton(call) {
  return h("button", { class: "button", onclick: () => shareDialog(call) }, icon("share"), "Share");
}

function shareDialog(call) {
  const lasts = h("select", { id: "share-lasts" }, [[3600, "1 hour"], [86_400, "1 day"], [604_800, "7 days"], [2_592_000, "30 days"]].map(([value, text]) => h("option", { value, selected: value === 86_400 }, text)));
  const result = h("div", { class: "share-result" });
  const links = h("div", { class: "share-links" });
  const make = h("button", { class: "button primary", onclick: create }, "Make link");
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "share-title", onclose: () => dialog.remove() },
    h("h2", { id: "share-title" }, "Share this call"),
    h("p", { class: "muted" }, "Anyone with the link can listen to and read this one call, and nothing else, until the link expires. The link ends earlier if it or the key that created it is revoked."),
    h("p", { class: "field" }, h("label", { for: "share-lasts" }, "Expires after"), lasts),
    result,
    links,
    h("div", { class: "dialog-end" }, h("button", { class: "button", onclick: () => dialog.close() }, "Close"), make));
  document.body.append(dialog);
  dialog.showModal();
  showLinks();

  async function showLinks() {
    try {
      const found = (await get(callPath(call.id, call.tenant, "/links"))).links;
      fill(links, found.length > 0 && [h("h3", {}, "Valid links"), h("ul", { class: "facts-list" }, found.map((one) => h("li", {},
        h("span", {}, `Made ${moment(one.created_at_ms)}, valid until ${moment(one.expires_at_ms)}`),
        h("button", { class: "button", "aria-label": `Revoke the link made ${moment(one.created_at_ms)}`, onclick: (event) => revoke(one, event.currentTarget) }, "Revoke"))))]);
    } catch (error) {
      fill(links, problem(error, showLinks));
    }
  }

  async function revoke(link, button) {
    button.disabled = true;
    try {
      await send("DELETE", callPath(call.id, call.tenant, `/links/${link.id}`));
      toast("The link is revoked");
      fill(result);
    } catch (error) {
      toast(error.message, "bad");
    }
    showLinks();
  }

  async function create() {
    make.disabled = true;
    try {
      const link = await send("POST", callPath(call.id, call.tenant, "/links"), { expires_in_s: Number(lasts.value) });
      const field = h("input", { id: "share-url", readonly: true, value: link.url, "aria-label": "Link" });
      fill(result, field, h("button", { class: "button", onclick: () => copyText(link.url, "Copied") }, icon("copy"), "Copy"), h("p", { class: "muted small" }, `Valid until ${fullMoment(link.expires_at_ms)}.`));
      field.select();
      showLinks();
    } catch (error) {
      fill(result, problem(error));
    }
    make.disabled = false;
  }
}
