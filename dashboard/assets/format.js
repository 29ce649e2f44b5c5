// Numbers, times and sizes for people.

const NONE = "–";

export const percent = (fraction, digits = 2) =>
  fraction === null || fraction === undefined ? NONE : `${(fraction * 100).toFixed(digits)} %`;

export const integer = (value) =>
  value === null || value === undefined ? NONE : Math.round(value).toLocaleString("en");

/** A factor. */
export const times = (value) => (value ? `${value.toFixed(2)}×` : NONE);

export const count = (value, one, many = `${one}s`) => `${integer(value)} ${value === 1 ? one : many}`;

/** A number to three significant digits. */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (size >= 1e9) return `${(value / 1e9).toFixed(2)} G`;
  if (size >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  if (size >= 1e4) return `${(value / 1e3).toFixed(1)} k`;
  if (size >= 100 || Number.isInteger(value)) return integer(value);
  return value.toPrecision(3);
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) ((value /= 1024), unit++);
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** How long a run may still take, roughly, as an estimate should be told. */
export function left(seconds) {
  if (seconds === null || seconds === undefined) return null;
  if (seconds < 50) return `${Math.max(5, Math.ceil(seconds / 5) * 5)} s`;
  if (seconds < 5400) return `${Math.max(1, Math.round(seconds / 60))} min`;
  if (seconds < 172800) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

const two = (value) => String(value).padStart(2, "0");

/** A time: of today without the day. */
export function time(ms) {
  const at = new Date(ms);
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  if (at.toDateString() === new Date().toDateString()) return clock;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${clock}`;
}

/** How long ago something was. */
export function ago(ms, now = Date.now()) {
  const seconds = Math.max(0, (now - ms) / 1000);
  if (seconds < 45) return "just now";
  if (seconds < 3600) return `${Math.max(1, Math.round(seconds / 60))} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}

/** A task's place: block, stage and part. */
export function task(id) {
  const replica = id.replica ? `, replica ${id.replica}` : "";
  return id.block === 0 ? `${id.stage} ${id.part}` : `block ${id.block} · ${id.stage} ${id.part}${replica}`;
}

/** A text of limited length for places where nothing wraps. */
export const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
