// The WebSocket of one session: changes are sent without waiting, answers arrive in order, masks are patches.

import * as api from "./api.js";

/** Write the bits of a patch (one per pixel, highest first) into its box. */
function apply(pixels, width, [left, top, boxWidth, boxHeight], bytes) {
  let at = 0;
  for (let y = top; y < top + boxHeight; y++) {
    for (let i = y * width + left, end = i + boxWidth; i < end; i++, at++) pixels[i] = (bytes[at >> 3] >> (7 - (at & 7))) & 1;
  }
}

export class Live {
  /** onAnswer(answer): with `pixels` if it brought a mask, with `code` if it is a refusal; onEnd(code) once. */
  constructor(id, width, height, { onReady, onAnswer, onEnd }) {
    Object.assign(this, { width, onAnswer });
    this.pixels = new Uint8Array(width * height); // the last mask, to which the next patch is relative
    this.header = null; // of an answer whose bits have not arrived yet
    this.socket = api.live(id);
    this.socket.binaryType = "arraybuffer";
    this.socket.addEventListener("open", onReady);
    this.socket.addEventListener("message", ({ data }) => this.#receive(data));
    this.socket.addEventListener("close", ({ code }) => onEnd(code));
  }

  get ready() {
    return this.socket.readyState === WebSocket.OPEN;
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  close() {
    this.socket.close();
  }

  #receive(data) {
    if (typeof data === "string") {
      const header = JSON.parse(data);
      if (header.patch?.num_bytes > 0) this.header = header;
      else if (header.patch) this.#deliver(header, new Uint8Array(0));
      else this.onAnswer(header);
      return;
    }
    const header = this.header;
    this.header = null;
    if (header) this.#deliver(header, new Uint8Array(data));
  }

  #deliver(header, bytes) {
    const pixels = this.pixels.slice(); // a copy, because the previous mask is being shown
    apply(pixels, this.width, header.patch.bbox_xywh, bytes);
    if (!header.preview) this.pixels = pixels; // a preview does not become the reference
    this.onAnswer({ ...header, pixels });
  }
}
