// Formats numbers and times for people. Pure.

const two = (number) => String(number).padStart(2, "0");

/** Formats a duration: 4:05, or 1:02:03. */
export function duration(ms) {
  const total = Math.max(0, Math.floor(ms / 1000));
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor(total / 60) % 60;
  return hours ? `${hours}:${two(minutes)}:${two(total % 60)}` : `${minutes}:${two(total % 60)}`;
}

/** Formats a short time span: 380 ms, 4.2 s, 3:00 min. */
export function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 3_600_000) return `${duration(ms)} min`;
  return `${(ms / 3_600_000).toFixed(1)} h`;
}

const time = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const seconds = new Intl.DateTimeFormat(undefined, {
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23",
});
const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const year = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", year: "numeric" });

/** Formats a point in time: the time of day if it is today, else date and time. */
export function moment(ms) {
  const then = new Date(ms);
  const now = new Date();
  if (then.toDateString() === now.toDateString()) return time.format(then);
  const date = then.getFullYear() === now.getFullYear() ? day.format(then) : year.format(then);
  return `${date}, ${time.format(then)}`;
}

/** Formats a point in time with date, year and seconds. */
export const fullMoment = (ms) => `${year.format(new Date(ms))}, ${seconds.format(new Date(ms))}`;

/** Formats a time of day to the second. */
export const clock = (ms) => seconds.format(new Date(ms));

/** The viewer's time zone, used for every day and time on the page: Asia/Tokyo. */
export const zone = new Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Returns the day of a point in time in the viewer's time zone: 2026-11-30. */
export function isoDay(ms) {
  const then = new Date(ms);
  return `${then.getFullYear()}-${two(then.getMonth() + 1)}-${two(then.getDate())}`;
}

/** Returns the first moment of a day (2026-11-30) in the viewer's time zone, in ms since the epoch; NaN if the text is not a day. */
export const dayStart = (text) => new Date(`${text}T00:00:00`).getTime();

/** Returns the first moment after a day in the viewer's time zone. */
export function dayEnd(text) {
  const then = new Date(`${text}T00:00:00`);
  then.setDate(then.getDate() + 1);
  return then.getTime();
}

/** Formats a number with separators. */
export const count = (number) => new Intl.NumberFormat().format(number);

/** Formats a number with its noun: 1 call, 2 calls. */
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** Formats a position in a recording to a hundredth of a second: 0:12.34. */
export const place = (ms) => `${duration(ms)}.${two(Math.floor((ms % 1000) / 10))}`;

/** Cuts a text into pieces [text, true if it is a word of the query]. Ignores case. */
export function marked(text, query) {
  const words = new Set(query.toLowerCase().match(WORD) ?? []);
  const pieces = [];
  let end = 0;
  for (const found of text.matchAll(WORD)) {
    if (!words.has(found[0].toLowerCase())) continue;
    if (found.index > end) pieces.push([text.slice(end, found.index), false]);
    end = found.index + found[0].length;
    pieces.push([found[0], true]);
  }
  if (end < text.length) pieces.push([text.slice(end), false]);
  return pieces;
}
// Chinese and Japanese have no spaces between words: each of their characters counts as a word.
const WORD = /[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|(?:(?![\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff])[\p{L}\p{N}\p{M}])+/gu;

/** Formats an amount from an exact decimal string: two decimals, or three significant digits for small amounts. */
export function money(amount, currency) {
  const value = Number(amount);
  const small = value !== 0 && Math.abs(value) < 1;
  const digits = small ? { maximumSignificantDigits: 3 } : { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  try {
    return new Intl.NumberFormat(undefined, { style: "currency", currency, currencyDisplay: "narrowSymbol", ...digits }).format(value);
  } catch {
    return `${value.toFixed(2)} ${currency}`;
  }
}

/** Formats an amount for a column: four decimals in every row. */
export function column(amount, currency) {
  try {
    return new Intl.NumberFormat(undefined, { style: "currency", currency, currencyDisplay: "narrowSymbol", minimumFractionDigits: 4, maximumFractionDigits: 4 }).format(Number(amount));
  } catch {
    return `${Number(amount).toFixed(4)} ${currency}`;
  }
}

/** Returns a language's name from its code; "language unknown" if the engine did not detect it. */
export function languageName(code) {
  if (code === "und") return "language unknown";
  try {
    return new Intl.DisplayNames(undefined, { type: "language" }).of(code);
  } catch {
    return code;
  }
}

/** Returns the numbers of a call's parties, or its id if the carrier sent no numbers. */
export function parties(call) {
  return call.from_number || call.to_number
    ? [call.from_number || "unknown", call.to_number || "unknown"]
    : [call.id, ""];
}

export const STAGES = ["recorded", "transcribed", "summarized", "complete"];
const WORK = { recorder: 0, transcribe: 1, summarize: 2, embed: 3 };

/** Returns the number of stages that a call has completed; of a failed call, those before the failure. */
export function stagesDone(call) {
  if (call.status === "failed") return WORK[call.failed_stage] ?? 0;
  return STAGES.indexOf(call.status) + 1;
}
