// The images of the server's example folder, in order; the next one is fetched ahead.

import * as api from "./api.js";

const MAX_SHOWN = 12; // on the welcome page

export class Folder {
  constructor() {
    this.entries = [];
    this.at = -1;       // index of the open image; -1: it is not in the folder
    this.ahead = null;  // {url, blob: promise} of the next image
  }

  async load() {
    this.entries = (await api.examples()).examples;
  }

  /** Buttons with pictures for the welcome page; onPick(index). */
  async pictures(onPick) {
    const shown = this.entries.slice(0, MAX_SHOWN);
    const sources = await Promise.all(shown.map(({ url }) => api.source(url)));
    return shown.map(({ name }, index) => {
      const button = Object.assign(document.createElement("button"), { title: name });
      button.append(Object.assign(document.createElement("img"), { src: sources[index], alt: name, loading: "lazy" }));
      button.addEventListener("click", () => onPick(index));
      return button;
    });
  }

  /** The index of an address, or -1. */
  indexOf(source) {
    return this.entries.findIndex(({ url }) => url === source);
  }

  has(index) {
    return index >= 0 && index < this.entries.length;
  }

  async fetch(index) {
    const { name, url } = this.entries[index];
    const blob = this.ahead?.url === url ? await this.ahead.blob : null;
    return { name, blob: blob ?? await get(url) };
  }

  /** Set the index of the open image, and fetch the next one. */
  opened(index) {
    this.at = index;
    const next = index >= 0 ? this.entries[index + 1] : null;
    this.ahead = next ? { url: next.url, blob: get(next.url).catch(() => null) } : null; // after a failure, fetched again when needed
  }
}

async function get(url) {
  const response = await api.send(url);
  if (!response.ok) throw new Error(`the server answered with status ${response.status}`);
  return response.blob();
}
