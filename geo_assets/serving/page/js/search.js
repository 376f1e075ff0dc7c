/**
 * Finding items: what is asked for, as the address says it, and as STAC's search wants it.
 * Here: filters, pages of answers. Not here: the form and the list (`explore.js`).
 */

import { json, STAC } from "./api.js";
import { boxShape, parseBox } from "./geometry.js";

/** As many are drawn; more would be a carpet. What comes after them is found by narrowing the search. */
export const MOST = 20_000;

/** A first page that comes at once, then large ones. */
const FIRST = 100;
const PAGE = 1000;

/** What the list and the map need of an item, and no more: 20,000 whole items would be 60 MB. */
const FIELDS = [
  "id",
  "collection",
  "geometry",
  "properties.title",
  "properties.datetime",
  "properties.start_datetime",
  "properties.end_datetime",
  "assets.thumbnail.href",
];

/** The names that a filter has in the address. */
const NAMES = ["q", "in", "from", "to", "bbox", "at"];

/** The filters of an address: {q, in, from, to, bbox, at}, without those that are not there. */
export function filters(query) {
  const found = Object.fromEntries(NAMES.map((name) => [name, query.get(name)?.trim()]).filter(([, value]) => value));
  if (!parseBox(found.bbox)) delete found.bbox;
  if (!point(found.at)) delete found.at;
  return found;
}

const point = (text) => {
  const numbers = (text ?? "").split(",").map(Number);
  return text && numbers.length === 2 && numbers.every(Number.isFinite) ? numbers : null;
};

const OPEN = "..";

/** A day as the start or the end of itself; what is none, as somebody may write into the address, bounds nothing. */
const edge = (day, clock) => (isDay(day) ? `${day}T${clock}Z` : OPEN);

/** Whether a text is a day of the calendar: a browser takes the 31st of February for the 3rd of March. */
function isDay(text) {
  const time = /^\d{4}-\d{2}-\d{2}$/.test(text ?? "") ? Date.parse(text) : NaN;
  return Number.isFinite(time) && new Date(time).toISOString().startsWith(text);
}

/** The body of a STAC search. */
export function body({ q, in: collections, from, to, bbox, at }) {
  const asked = {
    fields: { include: FIELDS },
    sortby: [
      { field: "datetime", direction: "desc" },
      { field: "id", direction: "asc" },
    ],
  };
  if (collections) asked.collections = collections.split(",");
  const [start, end] = [edge(from, "00:00:00"), edge(to, "23:59:59")];
  if (start !== OPEN || end !== OPEN) asked.datetime = `${start}/${end}`;
  const box = parseBox(bbox);
  if (at) asked.intersects = { type: "Point", coordinates: point(at) };
  else if (box && box[0] > box[2]) asked.intersects = boxShape(box);
  else if (box) asked.bbox = box;
  if (q) {
    asked["filter-lang"] = "cql2-json";
    asked.filter = textFilter(q);
  }
  return asked;
}

/** Every word in the title (the path of the file) or the id, in whatever case. */
function textFilter(text) {
  const words = text.split(/\s+/).map((word) => {
    const pattern = `%${word.replace(/[\\%_]/g, "\\$&")}%`;
    const like = (property) => ({
      op: "like",
      args: [
        { op: "casei", args: [{ property }] },
        { op: "casei", args: [pattern] },
      ],
    });
    return { op: "or", args: [like("title"), like("id")] };
  });
  return words.length === 1 ? words[0] : { op: "and", args: words };
}

/**
 * All items, page after page.
 * @yields {{items: Object[], complete: boolean}} all that were found so far; complete: there are no more
 */
export async function* search(wanted, signal) {
  const items = [];
  const asked = body(wanted);
  let token = null;
  do {
    const limit = Math.min(token ? PAGE : FIRST, MOST - items.length);
    const page = await json(`${STAC}/search`, { body: { ...asked, limit, ...(token && { token }) }, signal });
    items.push(...page.features);
    const next = page.links?.find((link) => link.rel === "next");
    token = next ? (next.body?.token ?? new URL(next.href, location.href).searchParams.get("token")) : null;
    yield { items, complete: !token };
  } while (token && items.length < MOST);
}
