/**
 * The address bar: it says what is shown, so that a link shows it again and the back button works.
 * Here: `#/part/part?name=value`. Not here: what is done with it.
 */

/** {parts: ["items", "collection", "id"], query: URLSearchParams} */
export function read(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  return { parts: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** A link to something: parts and, after `?`, what has a value. */
export function link(parts, query = {}) {
  const pairs = (query instanceof URLSearchParams ? [...query] : Object.entries(query)).filter(([, value]) => value);
  const text = new URLSearchParams(pairs).toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Go there, as if a link had been followed. */
export function go(parts, query) {
  location.hash = link(parts, query);
}

/** Note where the map is, without a step for the back button. */
export function noteView({ zoom, longitude, latitude }) {
  const { parts, query } = read();
  query.set("map", `${zoom.toFixed(2)}/${latitude.toFixed(4)}/${longitude.toFixed(4)}`);
  history.replaceState(history.state, "", link(parts, query));
}

/** Where the map should be, if the address says so. */
export function view(query) {
  const numbers = (query.get("map") ?? "").split("/").map(Number);
  return numbers.length === 3 && numbers.every(Number.isFinite)
    ? { zoom: numbers[0], latitude: numbers[1], longitude: numbers[2] }
    : null;
}
