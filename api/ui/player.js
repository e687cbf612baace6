// Player with a two-channel waveform.

import WaveSurfer from "./vendor/wavesurfer.esm.js";
import { address } from "./api.js";
import { h, icon } from "./dom.js";
import { duration } from "./format.js";
import { markText, marks } from "./gaps.js";

const SPEEDS = [0.75, 1, 1.25, 1.5, 1.75, 2];
const TRACKS = ["inbound", "outbound"];
const LANE_PX = 56;

/**
 * Creates the player of a part. on.time(ms): gets the position, continuously during playback; on.link(): copies a link to the position.
 * Returns `element`, `audio`, `seek(ms, play)`, `step(seconds)`, `faster(steps)`, `toggle()` and `close()`.
 */
export function player({ recording, waveform, part, on }) {
  const length = part.duration_ms;
  const audio = new Audio();
  audio.preload = "metadata";
  audio.src = address(recording);
  const lanes = h("div", { class: "lanes", role: "slider", tabindex: 0, "aria-label": "Position in the recording",
    "aria-valuemin": 0, "aria-valuemax": Math.round(length / 1000), "aria-valuenow": 0, onkeydown: onKey });
  const now = h("span", { class: "now" }, "0:00");
  const button = h("button", { class: "play", "aria-label": "Play", onclick: () => toggle() }, icon("play"));
  const speed = h("select", { id: "speed", onchange: () => { audio.playbackRate = Number(speed.value); } },
    SPEEDS.map((value) => h("option", { value, selected: value === 1 }, `${value}×`)));
  const error = h("p", { class: "form-error", role: "alert" });
  const element = h("div", { class: "player" },
    h("div", { class: "wave" },
      h("div", { class: "lane-names", "aria-hidden": "true" }, TRACKS.map((track) => h("span", { class: track }, track))),
      lanes),
    h("div", { class: "controls" },
      h("button", { class: "icon-button", "aria-label": "Back 10 seconds", title: "Back 10 s", onclick: () => step(-10) }, icon("back")),
      button,
      h("button", { class: "icon-button", "aria-label": "Forward 10 seconds", title: "Forward 10 s", onclick: () => step(10) }, icon("forward")),
      h("span", { class: "time" }, now, " / ", duration(length)),
      error,
      h("button", { class: "icon-button copy-link", "aria-label": "Copy a link to this time", title: "Copy a link to this time (c)", onclick: () => on.link() }, icon("link")),
      h("span", { class: "field speed" }, h("label", { for: "speed" }, "Speed"), speed)));

  for (const track of part.tracks) {
    for (const mark of marks(track.gaps, length)) {
      const shown = h("i", { class: `gap ${track.name} ${mark.wide ? "wide" : "narrow"}`, title: markText(track.name, mark) });
      shown.style.left = `${(100 * mark.start_ms) / length}%`;
      shown.style.width = `${(100 * (mark.end_ms - mark.start_ms)) / length}%`;
      lanes.append(shown);
    }
  }

  let surfer = null;
  let frame = 0;
  let closed = false;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const looks = () => ({
    cursorColor: colour("--ink"),
    splitChannels: TRACKS.map((track) => ({ waveColor: colour(`--${track}-wave`), progressColor: colour(`--${track}`), height: LANE_PX })),
  });
  const restyle = () => surfer?.setOptions(looks());
  const scheme = matchMedia("(prefers-color-scheme: dark)");

  function draw(peaks) {
    if (closed) return;
    surfer = WaveSurfer.create({
      container: lanes, media: audio, peaks: louder(peaks.channels.map(heights)), duration: length / 1000, height: LANE_PX,
      cursorWidth: 2, dragToSeek: true, cspNonce: document.querySelector("meta[name=csp-nonce]").content, ...looks(),
    });
    surfer.on("interaction", () => moved());
    window.addEventListener("theme", restyle);
    scheme.addEventListener("change", restyle);
  }
  waveform.then(draw, () => { error.textContent = "The waveform is not available; the audio is."; });

  function follow() {
    cancelAnimationFrame(frame);
    moved();
    if (!audio.paused) frame = requestAnimationFrame(follow);
  }
  function moved() {
    const ms = audio.currentTime * 1000;
    const text = duration(ms);
    if (now.textContent !== text) {
      now.textContent = text;
      lanes.setAttribute("aria-valuenow", Math.round(ms / 1000));
      lanes.setAttribute("aria-valuetext", `${text} of ${duration(length)}`);
    }
    on.time(ms);
  }
  function playing() {
    button.replaceChildren(icon(audio.paused ? "play" : "pause"));
    button.setAttribute("aria-label", audio.paused ? "Play" : "Pause");
    element.classList.toggle("playing", !audio.paused);
    follow();
  }
  for (const event of ["play", "pause", "ended"]) audio.addEventListener(event, playing);
  audio.addEventListener("seeked", moved);
  audio.addEventListener("error", () => { error.textContent = "The recording cannot be played. Try again in a moment."; });

  function toggle() {
    if (audio.paused) start(); else audio.pause();
  }
  function start() {
    audio.play().catch((problem) => {
      if (problem.name !== "AbortError" && problem.name !== "NotAllowedError") error.textContent = "The recording cannot be played.";
    });
  }
  function seek(ms, play) {
    const to = Math.min(Math.max(0, ms), Math.max(0, length - 1)) / 1000;
    audio.currentTime = to;
    if (play) start();
    moved();
  }
  const step = (seconds) => seek(audio.currentTime * 1000 + seconds * 1000, false);
  /** Takes the next speeds, or with a negative number the previous ones. Returns the speed. */
  function faster(steps) {
    const index = SPEEDS.indexOf(Number(speed.value)) + steps;
    speed.value = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, index))];
    audio.playbackRate = Number(speed.value);
    return audio.playbackRate;
  }
  function onKey(event) {
    const steps = { ArrowLeft: -5, ArrowRight: 5, PageDown: -30, PageUp: 30 };
    if (event.key in steps) step(steps[event.key]);
    else if (event.key === "Home") seek(0);
    else if (event.key === "End") seek(length);
    else return;
    event.preventDefault();
  }
  function close() {
    closed = true;
    cancelAnimationFrame(frame);
    audio.pause();
    audio.removeAttribute("src");
    audio.load();
    surfer?.destroy();
    window.removeEventListener("theme", restyle);
    scheme.removeEventListener("change", restyle);
  }
  return { element, audio, seek, step, faster, toggle, close };
}

/** Scales all channels by the same factor, so that the loudest moment fills its lane; silence stays silence. */
function louder(channels) {
  const peak = Math.max(0.02, ...channels.map((channel) => channel.reduce((most, one) => Math.max(most, one), 0)));
  return channels.map((channel) => channel.map((one) => (0.96 * one) / peak));
}

/** Returns the greater absolute value of each pair, 0 to 1. */
function heights(pairs) {
  const found = new Float32Array(pairs.length / 2);
  for (let index = 0; index < found.length; index++) {
    found[index] = Math.max(-pairs[2 * index], pairs[2 * index + 1]) / 128;
  }
  return found;
}
