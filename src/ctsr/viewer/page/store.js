// Pictures that have arrived, up to a number of bytes, and the requests for those that are wanted.

import { picture } from "./api.js";

const AT_ONCE = 5; // a browser opens six connections to one server, and one of them listens

export class PictureStore {
  constructor(maxBytes, arrived, failed) {
    this.maxBytes = maxBytes;
    this.arrived = arrived;
    this.failed = failed;
    this.pictures = new Map(); // key → picture, the one used last at the end
    this.bytes = 0;
    this.running = new Map(); // key → {controller, request, outdated}
    this.broken = new Set(); // keys of pictures that could not be made when they were asked for last
    this.wanted = [];
  }

  static key(request) {
    return [request.series, request.setting, request.panel, request.plane, request.index, request.slab ?? "", request.slab_mm ?? ""].join("/");
  }

  get(request) {
    const key = PictureStore.key(request);
    const found = this.pictures.get(key);
    if (found) {
      this.pictures.delete(key);
      this.pictures.set(key, found);
    }
    return found;
  }

  /** Fetch these, most urgent first, and give up whatever else is on its way. */
  want(requests) {
    const keys = new Set(requests.map(PictureStore.key));
    for (const [key, running] of this.running) {
      if (!keys.has(key)) {
        running.controller.abort();
        this.running.delete(key);
      }
    }
    this.wanted = requests;
    this.next();
  }

  /** Remember that a picture cannot be had, until it comes after all. */
  fail(request) {
    this.broken.add(PictureStore.key(request));
  }

  hasFailed(request) {
    return this.broken.has(PictureStore.key(request));
  }

  /** Ask again for pictures that were not complete. */
  refresh(concerns) {
    for (const found of this.pictures.values()) {
      if (!found.complete && concerns(found.request)) found.stale = true;
    }
    // An answer that is on its way may have been made before the news.
    for (const running of this.running.values()) running.outdated ||= concerns(running.request);
    this.next();
  }

  /** Drop pictures that will come out otherwise. */
  forget(concerns) {
    for (const [key, found] of this.pictures) {
      if (!concerns(found.request)) continue;
      this.pictures.delete(key);
      this.bytes -= found.data.byteLength;
    }
    for (const running of this.running.values()) running.forgotten ||= concerns(running.request);
  }

  clear() {
    this.want([]);
    this.broken.clear();
    this.pictures.clear();
    this.bytes = 0;
  }

  next() {
    for (const request of this.wanted) {
      if (this.running.size >= AT_ONCE) return;
      const key = PictureStore.key(request);
      const known = this.pictures.get(key);
      if (this.running.has(key) || (known && !known.stale)) continue;
      this.fetch(key, request);
    }
  }

  async fetch(key, request) {
    const running = { controller: new AbortController(), request, outdated: false };
    this.running.set(key, running);
    try {
      const found = await picture(request, running.controller.signal);
      if (!running.forgotten) this.keep(key, { ...found, request, stale: running.outdated && !found.complete });
      this.arrived(request);
    } catch (error) {
      if (error.name !== "AbortError") {
        this.wanted = this.wanted.filter((other) => PictureStore.key(other) !== key);
        this.fail(request);
        this.failed(error);
      }
    } finally {
      if (this.running.get(key) === running) this.running.delete(key);
      this.next();
    }
  }

  keep(key, found) {
    if (found.complete) this.broken.delete(key);
    const old = this.pictures.get(key);
    if (old) this.bytes -= old.data.byteLength;
    this.pictures.delete(key);
    this.pictures.set(key, found);
    this.bytes += found.data.byteLength;
    for (const [other, given] of this.pictures) {
      if (this.bytes <= this.maxBytes || other === key) break;
      this.pictures.delete(other);
      this.bytes -= given.data.byteLength;
    }
  }
}
