/**
 * Links to what this server has. A link carries no token: where one is needed, what it leads to is fetched with it and saved.
 * Here: following. Not here: addresses and the token (`api.js`).
 */

import { blob, isOurs, token } from "./api.js";
import { h } from "./dom.js";

/** A link to a file or a document; to other servers it is a link as any other, and they get no token. */
export function fileLink(href, ...children) {
  const said = h("span", { role: "alert" });
  const follow = async (event) => {
    if (!token() || !isOurs(href)) return;
    event.preventDefault();
    said.textContent = " …";
    try {
      save(await blob(href), nameOf(href));
      said.textContent = "";
    } catch (error) {
      said.textContent = ` ${error.message}`;
    }
  };
  return [h("a", { href, onclick: follow }, children), said];
}

const nameOf = (href) => decodeURIComponent(new URL(href, location.href).pathname.split("/").filter(Boolean).pop());

function save(content, name) {
  const href = URL.createObjectURL(content);
  h("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60_000); // the browser has it by then
}
