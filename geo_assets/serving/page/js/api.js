/**
 * Talking to the server this page came from, and to no other.
 * Here: requests, errors as sentences, the token where one is needed, the addresses of services. Not here: what is done with answers.
 */

/** Where things are; behind a proxy the page may lie below a path, and everything else beside it. */
export const ORIGIN = location.origin;
const ROOT = new URL("..", import.meta.url).pathname.replace(/\/$/, "");
export const STAC = `${ROOT}/stac`;
export const TILES = `${ROOT}/tiles`;
export const FEATURES = `${ROOT}/features`;
export const API = `${ROOT}/api`;

const TOKEN = "geo_assets.token";

/** For this tab only: gone when it is closed. */
export const token = () => sessionStorage.getItem(TOKEN);
export const keepToken = (text) => (text ? sessionStorage.setItem(TOKEN, text) : sessionStorage.removeItem(TOKEN));

export const headers = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

/** What went wrong: a sentence for people, the remedy if the server knows one, the HTTP status (0: no answer). */
export class Fault extends Error {
  constructor(message, { status = 0, remedy = null } = {}) {
    super(message);
    this.status = status;
    this.remedy = remedy;
  }
}

/** A number that JavaScript's do not hold, with all its digits; in a browser that does not tell these, the one next to it. */
function exactly(_, found, { source } = {}) {
  if (typeof found !== "number" || source === undefined) return found;
  if (/^-?\d+$/.test(source)) return Number.isSafeInteger(found) ? found : BigInt(source);
  return source.replace(/e.*|\D/gi, "").length > 17 ? source : found;
}

/** JSON of a path of this origin. `exact`: whole numbers beyond 2^53 are bigint, decimals of more digits than a double has are text. */
export async function json(path, { body, signal, exact = false } = {}) {
  const init = { headers: { Accept: "application/json", ...headers() }, signal };
  if (body !== undefined) {
    init.method = "POST";
    init.headers["Content-Type"] = "application/json";
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Fault("The server does not answer.", {
      remedy: "geo-assets status shows whether it runs; geo-assets up starts it.",
    });
  }
  if (!response.ok) throw await faultOf(response);
  return exact ? JSON.parse(await response.text(), exactly) : response.json();
}

async function faultOf(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    /* not JSON: the status has to do */
  }
  const detail = typeof said.detail === "string" ? said.detail : (said.description ?? said.title);
  return new Fault(detail || `The server answered ${response.status} ${response.statusText}`.trim(), {
    status: response.status,
    remedy: typeof said.remedy === "string" ? said.remedy : null,
  });
}

/** Whether an address is of this server, which alone gets the token. */
export const isOurs = (href) => new URL(href, location.href).origin === ORIGIN;

/** The bytes of an address of this server, fetched with the token if there is one. */
export async function blob(href) {
  const response = await fetch(new URL(href, location.href), { headers: headers() });
  if (!response.ok) throw await faultOf(response);
  return response.blob();
}

/** The address for <img>: as it is, or, where a token is needed, of bytes that were fetched with it. Of this origin only. */
export async function picture(href) {
  if (!isOurs(href)) throw new Fault("a picture of another origin");
  if (!token()) return new URL(href, location.href).href;
  return URL.createObjectURL(await blob(href));
}

/** Path segments, each encoded. */
export const path = (...segments) => segments.map((segment) => encodeURIComponent(segment)).join("/");

export const collectionPath = (collection) => `${STAC}/collections/${path(collection)}`;
export const itemPath = (collection, item) => `${collectionPath(collection)}/items/${path(item)}`;

/** Addresses of the tiles of an item, or of a collection if no item is named. */
export function tilePaths(collection, item, parameters) {
  const base = `${TILES}/collections/${path(collection)}${item ? `/items/${path(item)}` : ""}`;
  const query = new URLSearchParams(parameters).toString();
  return {
    tiles: `${base}/tiles/WebMercatorQuad/{z}/{x}/{y}.png?${query}`,
    wmts: `${base}/WMTSCapabilities.xml?${query}`,
    preview: `${base}/preview.png?${query}`,
  };
}

export const tablePath = (table) => `${FEATURES}/collections/${path(table)}`;
export const tableTiles = (table) => `${tablePath(table)}/tiles/WebMercatorQuad/{z}/{x}/{y}`;
