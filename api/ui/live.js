// Live calls: the server's events, and meters for the levels of the tracks.

import { address, session } from "./api.js";

const RECONNECT_MS = 2000;

/**
 * Listens to the server's events and returns a function that stops listening. on.call(call): a call is new or has
 * changed; on.levels(list): new levels of tracks; on.state(open): the connection is open or broken.
 */
export function watch(on) {
  let source = null;
  let waiting = 0;
  open();
  return () => {
    clearTimeout(waiting);
    source.close();
    source = null;
  };

  function open() {
    source = new EventSource(address("/v1/live"));
    source.addEventListener("open", () => on.state?.(true));
    source.addEventListener("error", onError);
    source.addEventListener("call", (event) => on.call?.(JSON.parse(event.data)));
    source.addEventListener("levels", (event) => on.levels?.(JSON.parse(event.data).levels));
  }
  function onError() {
    on.state?.(false);
    // The browser reconnects by itself when a connection breaks, but not after a refused connection.
    if (source.readyState === EventSource.CLOSED) waiting = setTimeout(reconnect, RECONNECT_MS);
  }
  async function reconnect() {
    const error = await session().then(() => null, (problem) => problem);
    if (source === null || error?.status === 401) return; // stopped meanwhile, or signed out: api.js dispatches "signed-out"
    open();
  }
}

const BARS = 60;
const FLOOR_DB = -52;
const TRACKS = ["inbound", "outbound"];

/** Small chart of each track's levels in the last seconds: caller above the line, callee below. */
export class Meter {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.canvas.className = "meter";
    this.canvas.setAttribute("aria-hidden", "true");
    this.bars = { inbound: new Array(BARS).fill(0), outbound: new Array(BARS).fill(0) };
    this.queue = { inbound: [], outbound: [] };
    this.lastAt = 0;
  }

  /** Queues levels in dB of full scale, one per 100 ms, to show one after the other. */
  push(track, levels) {
    const queue = this.queue[track];
    if (!queue) return;
    queue.push(...levels.map((db) => Math.max(0, 1 - db / FLOOR_DB)));
    if (queue.length > 30) queue.splice(0, queue.length - 10); // the tab was hidden and the meter is behind
  }

  /** Advances the chart by one bar per 100 ms since the last tick. */
  tick(now) {
    if (now - this.lastAt < 100) return;
    const steps = this.lastAt ? Math.min(BARS, Math.floor((now - this.lastAt) / 100)) : 1;
    this.lastAt = this.lastAt ? this.lastAt + steps * 100 : now;
    for (const track of TRACKS) {
      for (let step = 0; step < steps; step++) {
        this.bars[track].push(this.queue[track].shift() ?? 0);
        this.bars[track].shift();
      }
    }
    this.draw();
  }

  /** Returns the highest level of the last second. */
  level(track) {
    return Math.max(...this.bars[track].slice(-10));
  }

  draw() {
    const { canvas } = this;
    const scale = devicePixelRatio || 1;
    const width = canvas.clientWidth * scale;
    const height = canvas.clientHeight * scale;
    if (!width) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const style = getComputedStyle(canvas);
    const step = width / BARS;
    const middle = height / 2;
    context.clearRect(0, 0, width, height);
    TRACKS.forEach((track, lane) => {
      context.fillStyle = style.getPropertyValue(`--${track}`);
      this.bars[track].forEach((value, index) => {
        const size = Math.max(scale * 0.75, value * (middle - scale));
        context.fillRect(index * step, lane ? middle + scale / 2 : middle - size - scale / 2, Math.max(1, step * 0.65), size);
      });
    });
  }
}

/** Animates all meters. Returns a function that stops it. */
export function animate(meters) {
  let frame = 0;
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  let calmAt = 0;
  const turn = (now) => {
    frame = requestAnimationFrame(turn);
    if (calm.matches && now - calmAt < 1000) return;
    calmAt = now;
    for (const meter of meters()) meter.tick(now);
  };
  frame = requestAnimationFrame(turn);
  return () => cancelAnimationFrame(frame);
}
