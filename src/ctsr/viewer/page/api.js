// What is asked of the server. Every address is below the page's own, which holds the token.

import { NOTHING } from "./format.js";

export const page = Math.random().toString(36).slice(2);

/** @type {(lost: boolean) => void} */
let tellLost = () => {};

async function reply(name, params, options) {
  const query = new URLSearchParams(params).toString();
  const response = await fetch(`api/${name}${query ? `?${query}` : ""}`, options).catch((error) => {
    if (error.name === "AbortError") throw error;
    tellLost(true);
    throw Object.assign(new Error("The viewer does not answer."), { name: "LostError" });
  });
  if (!response.ok) {
    throw Object.assign(new Error((await response.json()).error), { status: response.status });
  }
  return response;
}

/** null where the server says that the page has moved on meanwhile. */
export async function ask(name, params = {}, signal = undefined) {
  const answer = await reply(name, params, { signal });
  return answer.status === 204 ? null : answer.json();
}

export async function wish(name, document) {
  const headers = { "Content-Type": "application/json" };
  return (await reply(name, {}, { method: "POST", headers, body: JSON.stringify(document) })).json();
}

/** {data: Int16Array of HU, rows, columns, complete, blank: no row of it is there yet} */
export async function picture(params, signal) {
  const response = await reply("image", params, { signal });
  const [rows, columns] = response.headers.get("X-Size").split(",").map(Number);
  const complete = response.headers.get("X-Complete") === "1";
  const data = new Int16Array(await response.arrayBuffer());
  const blank = !complete && data.every((value) => value === NOTHING);
  return { data, rows, columns, complete, blank };
}

/** Hear of slices that become ready; `lost` is told when the server is gone, and when it is back. */
export function listen(hear, lost) {
  tellLost = lost;
  const source = new EventSource("api/events");
  source.onmessage = (message) => hear(JSON.parse(message.data));
  source.onopen = () => lost(false);
  source.onerror = () => lost(true);
}
