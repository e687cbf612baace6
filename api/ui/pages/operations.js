// Operations page: state of services, stores and providers, dead letters, and replays.

import { callPage, get, send } from "../api.js";
import { fill, h, icon, problem, toast } from "../dom.js";
import { count, fullMoment, moment, plural, span } from "../format.js";
import { shortcuts } from "../shortcuts.js";

const EVERY_MS = 5000;
const REPLAYS = 50; // shown at once

const code = (text) => h("code", {}, text);

export function render(root, { go, who }) {
  const health = h("div", { class: "ops" });
  const letters = h("div", {});
  const replays = h("div", {});
  let closed = false;
  let timer = 0;

  root.append(h("h1", {}, "Operations"), health,
    h("section", { class: "card", "aria-labelledby": "letters-title" }, h("div", { class: "section-head" }, h("h2", { id: "letters-title" }, "Dead letters"), h("span", { class: "muted small" }, "work that a stage gave up on")), letters),
    h("section", { class: "card", "aria-labelledby": "replays-title" }, h("div", { class: "section-head" }, h("h2", { id: "replays-title" }, "Replays"), h("span", { class: "muted small" }, "calls processed again")), replays));
  if (who.tenant !== null) {
    fill(root, h("h1", {}, "Operations"), h("p", { class: "muted" }, "This page needs a key that sees every tenant."));
    return null;
  }
  for (const box of [health, letters, replays]) fill(box, h("p", { class: "muted quiet" }, "Loading…"));
  turn();

  async function turn() {
    await Promise.all([
      part(health, () => get("/v1/operations"), showHealth),
      part(letters, () => get("/v1/dead-letters"), showLetters),
      part(replays, () => get("/v1/replays"), showReplays),
    ]);
    if (!closed) timer = setTimeout(turn, document.hidden ? 6 * EVERY_MS : EVERY_MS);
  }
  async function part(box, ask, show) {
    try {
      const found = await ask();
      const text = JSON.stringify(found);
      if (closed || box.dataset.shown === text) return; // unchanged: keeps focus and selection
      box.dataset.shown = text;
      show(found);
    } catch (error) {
      if (closed || error.name === "AbortError") return;
      delete box.dataset.shown;
      fill(box, problem(error));
    }
  }

  function showHealth(found) {
    fill(health,
      h("section", { class: "card", "aria-labelledby": "services-title" },
        h("div", { class: "section-head" }, h("h2", { id: "services-title" }, "Services")),
        found.services.length ? h("div", { class: "scroll body", tabindex: 0, role: "region", "aria-labelledby": "services-title" }, h("table", { class: "plain services" },
          h("thead", {}, h("tr", {}, ["Service", "State", "Lag", "At work", "Waiting", "Retries", "Dead letters", "Memory", "Up since"].map((name, index) => h("th", { scope: "col", class: index > 1 ? "n" : null }, name)))),
          h("tbody", {}, found.services.map((one) => h("tr", {},
            h("th", { scope: "row" }, one.name), h("td", {}, stateBadge(one)),
            [one.lag_records, one.jobs_running, one.jobs_held === null ? null : Math.max(0, one.jobs_held - (one.jobs_running ?? 0)), one.retries, one.dead_letters].map((value) => h("td", { class: "n" }, value === null ? "–" : count(value))),
            h("td", { class: "n" }, one.memory_bytes ? `${Math.round(one.memory_bytes / 1e6)} MB` : "–"),
            h("td", { class: "n" }, one.started_at_ms ? moment(one.started_at_ms) : "–"))))))
          : h("p", { class: "muted quiet" }, "No services are configured: list them in ", code("AUDIOTEXT_API__WATCHED"), ". ", code("audiotext up"), " sets it.")),
      h("div", { class: "two" },
        h("section", { class: "card side-card", "aria-labelledby": "stores-title" }, h("h2", { id: "stores-title" }, "Stores"),
          h("ul", { class: "facts-list" }, found.stores.map((one) => h("li", {}, h("span", {}, one.name), one.ok ? badge("good", "check", "answers") : badge("bad", "warn", one.reason))))),
        h("section", { class: "card side-card", "aria-labelledby": "providers-title" }, h("h2", { id: "providers-title" }, "Providers"),
          h("ul", { class: "facts-list" }, found.providers.map((one) => h("li", {}, h("span", {}, one.name, " ", h("span", { class: "muted" }, one.service)), h("span", { class: "facts-end" }, attempts(one),
            providerBadge(one.state)),
            one.reason && h("span", { class: "letter-error small" }, one.reason)))))));
  }

  const attempts = (one) => {
    const done = one.attempts.done ?? 0;
    const failed = one.attempts.failed ?? 0;
    return done + failed > 0 && h("span", { class: "muted small" }, `${count(done)} done, ${count(failed)} failed${one.attempt_s ? `, ${span(one.attempt_s * 1000)} each` : ""}`);
  };
  const badge = (kind, name, text) => h("span", { class: `badge ${kind}` }, name && icon(name), text);
  const stateBadge = (one) => ({ up: badge("good", "check", "up"), failing: badge("bad", "warn", `failing, ${count(one.failures_in_a_row ?? 0)} in a row`), stalled: badge("warn", "warn", "stalled"), down: badge("bad", "warn", "down") })[one.state];
  const providerBadge = (state) => ({ healthy: badge("good", "check", "healthy"), failing: badge("bad", "warn", "failing"), away: badge("bad", "warn", "away"), idle: badge("", null, "no request yet") })[state] ?? badge("", null, "unknown");

  function showLetters(found) {
    if (!found.letters.length) return fill(letters, h("p", { class: "muted quiet" }, "No dead letters."));
    return fill(letters, h("ul", { class: "letters" }, found.letters.map((one) => h("li", { class: "letter", "data-letter": one.id },
      h("div", { class: "letter-body" },
        h("p", {}, h("strong", {}, one.stage), " ", h("span", { class: "muted small" }, `${moment(one.occurred_at_ms)}, ${plural(one.attempts, "attempt")}, ${one.error_class}`)),
        h("p", { class: "letter-error" }, one.error),
        h("p", { class: "small muted" }, h("a", { href: callPage(one.call_id, one.tenant) }, one.call_id), " ", one.tenant)),
      one.replayable
        ? h("button", { class: "button", "aria-label": `Replay ${one.stage} of ${one.call_id}`, onclick: (event) => replay(one, event.currentTarget) }, icon("again"), "Replay")
        : h("span", { class: "muted small" }, one.replayed_at_ms ? `replayed ${moment(one.replayed_at_ms)}` : "cannot be replayed")))));
  }

  async function replay(letter, button) {
    button.disabled = true;
    try {
      await send("POST", `/v1/dead-letters/${encodeURIComponent(letter.id)}/replay`);
      toast(`Replayed: ${letter.stage} tries again`);
      const row = button.closest(".letter");
      (row.nextElementSibling?.querySelector("button") ?? letters.closest("section")).focus?.();
      row.remove();
      delete letters.dataset.shown;
    } catch (error) {
      button.disabled = false;
      toast(error.message, "bad");
    }
  }

  function showReplays(found) {
    if (!found.replays.length) return fill(replays, h("p", { class: "muted quiet" }, "No replays yet. Start one with ", code("audiotext replay start"), " or ", code("POST /v1/replays"), "."));
    return fill(replays, h("ul", { class: "letters" }, found.replays.slice(0, REPLAYS).map((one) => {
      const finished = one.done + one.failed + one.skipped;
      const bar = h("progress", { max: Math.max(1, one.parts), value: finished, "aria-label": `${count(finished)} of ${plural(one.parts, "part")}` });
      return h("li", { class: "letter" },
        h("div", { class: "letter-body" },
          h("p", {}, h("strong", {}, `From ${one.stage}`), " ", h("span", { class: "muted small" }, fullMoment(one.requested_at_ms), one.tenant && `, ${one.tenant}`)),
          bar,
          h("p", { class: "small muted" }, `${count(finished)} of ${plural(one.parts, "part")}`, one.failed > 0 && `, ${count(one.failed)} failed`, one.skipped > 0 && `, ${count(one.skipped)} skipped`,
            one.reused > 0 && `, ${count(one.reused)} had every result before`,
            one.done > 0 && (one.keep_current ? ", current versions kept" : `, ${count(one.switched)} switched to its versions`),
            one.state === "running" && one.eta_s !== null && `, ${span(one.eta_s * 1000)} left`),
          one.done > 0 && h("p", { class: "letter-actions" },
            h("button", { class: "button", onclick: (event) => useVersions({ replay: one.id }, event.currentTarget) }, "Use its versions"),
            h("button", { class: "button", onclick: (event) => useVersions({ before: one.id }, event.currentTarget) }, "Switch back"))),
        one.state === "running" ? h("button", { class: "button", onclick: (event) => control(one, "stop", event.currentTarget) }, "Stop")
          : one.state === "stopped" ? h("button", { class: "button", onclick: (event) => control(one, "resume", event.currentTarget) }, "Resume") : badge("good", "check", "done"));
    })), found.replays.length > REPLAYS && h("p", { class: "muted quiet small" }, `These are the ${REPLAYS} newest of ${count(found.replays.length)} replays; `, code("audiotext replay list"), " shows all."));
  }

  async function useVersions(which, button) {
    button.disabled = true;
    try {
      const found = await send("POST", "/v1/versions/use", which);
      toast(`${count(found.switched_calls)} of ${plural(found.calls, "call")} switched`);
    } catch (error) {
      toast(error.message, "bad");
    }
    button.disabled = false;
  }

  async function control(one, what, button) {
    button.disabled = true;
    try {
      await send("POST", `/v1/replays/${encodeURIComponent(one.id)}/${what}`);
      delete replays.dataset.shown;
      await part(replays, () => get("/v1/replays"), showReplays);
    } catch (error) {
      button.disabled = false;
      toast(error.message, "bad");
    }
  }

  const stopKeys = shortcuts([{ keys: ["/"], text: "Search in all calls", run: () => go("/search") }]);
  return () => {
    closed = true;
    stopKeys();
    clearTimeout(timer);
  };
}
