/**
 * Numbers, times and places as people read them.
 * Here: from values to words. Not here: elements.
 */

const COUNT = new Intl.NumberFormat("en");
const VALUE = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });

export const count = (number) => COUNT.format(number);

/** `1 item`, `2 items`. */
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export function value(number) {
  if (number === null || number === undefined) return "–";
  if (typeof number !== "number") return String(number);
  return Math.abs(number) >= 1e9 || (number !== 0 && Math.abs(number) < 1e-4)
    ? number.toExponential(3)
    : VALUE.format(number);
}

/** Bytes in units of 1,000. */
export function bytes(size) {
  if (!Number.isFinite(size)) return null;
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (size >= 1000 && unit < units.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${unit ? size.toPrecision(3) : count(Math.round(size))} ${units[unit]}`;
}

/** A span in the first year is how the catalogue says that the time is unknown. */
const isUnknown = (time) => !time || time.startsWith("0001-");

/** The time of an item: a day, a time of day, a span, or that it is unknown. */
export function captured(properties) {
  const { datetime, start_datetime: start, end_datetime: end } = properties;
  if (!isUnknown(start) && !isUnknown(end)) {
    const [from, to] = [start.slice(0, 10), end.slice(0, 10)];
    return from === to ? from : `${from} to ${to}`;
  }
  return isUnknown(datetime) ? "time unknown" : utc(datetime);
}

const two = (number) => String(Math.abs(number)).padStart(2, "0");

/**
 * When something happened, by the clock of who looks: `2026-11-01 01:30:00 -02:30`. With its offset, for an hour comes
 * twice when clocks are put back.
 */
export function moment(time) {
  const at = new Date(time ?? NaN);
  if (Number.isNaN(at.getTime())) return null;
  const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  const east = -at.getTimezoneOffset();
  const offset = east ? `${east < 0 ? "-" : "+"}${two(Math.trunc(east / 60))}:${two(east % 60)}` : "UTC";
  return `${day} ${clock} ${offset}`;
}

/** A time that is a fact of the data: `2024-01-31`, or with the time of day where it is not midnight; UTC for all. */
export function utc(time) {
  if (!time) return null;
  const [day, clock = ""] = time.replace(/(\.\d+)?(Z|\+00:00)$/, "").split("T");
  return clock && !clock.startsWith("00:00:00") ? `${day} ${clock.slice(0, 8)} UTC` : day;
}

/** The span of a collection. */
export function span([from, to] = []) {
  if (isUnknown(from) && isUnknown(to)) return null;
  const [start, end] = [isUnknown(from) ? "…" : from.slice(0, 10), isUnknown(to) ? "…" : to.slice(0, 10)];
  return start === end ? start : `${start} to ${end}`;
}

/** How long, of two times; until now if there is no second. */
export function lasted(from, to) {
  if (!from) return null;
  return duration(((to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000);
}

/** `42 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function duration(time) {
  const seconds = Math.max(0, Math.round(time));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** A place in degrees. */
export function place(longitude, latitude, digits = 4) {
  const side = (degrees, plus, minus) => `${Math.abs(degrees).toFixed(digits)}° ${degrees < 0 ? minus : plus}`;
  return `${side(latitude, "N", "S")}, ${side(longitude, "E", "W")}`;
}

/** The SHA-256 of a multihash, or the hash as it is. */
export const sha256 = (checksum) => (/^1220[0-9a-f]{64}$/.test(checksum ?? "") ? checksum.slice(4) : checksum);

/** `completed_with_errors` → `completed with errors`, `stac_items` → `STAC items`. */
export const words = (name) =>
  String(name ?? "")
    .replaceAll("_", " ")
    .replace(/\bcogs\b/, "COGs")
    .replace(/\bstac\b/, "STAC");
