// Shows what one more click would do while the pointer rests. Only for fast networks, and without delaying clicks.

import { painted, word } from "./paint.js";

const FAST_MS = 150, APART_MS = 100, LATE_MS = 3000;
const ADDED = word([47, 191, 113], 120), REMOVED = word([240, 84, 91], 140);

export class Hover {
  /** current() returns the mask that is shown, or null. */
  constructor(view, current) {
    Object.assign(this, { view, current });
    this.allowed = true;   // by the user
    this.fast = false;     // judged by the last correction
    this.session = null;
    this.wanted = null;
    this.asked = null;     // {at, place} of the preview in progress
    this.lastAt = 0;
  }

  attach(session) {
    this.session = session;
    this.asked = null;
    this.fast = false;
    session.onPreview = (answer) => this.#show(answer);
    this.stop();
  }

  /** Record the time of a correction; first clicks do not count, because they encode the image. */
  took(milliseconds, numClicks) {
    if (numClicks > 1) this.fast = milliseconds < FAST_MS;
  }

  /** pixel: the one under the pointer, or null. */
  at(pixel, positive) {
    this.view.setPreview(null);
    this.wanted = pixel && this.allowed && this.fast ? { ...pixel, positive } : null;
    this.#ask();
  }

  stop() {
    this.wanted = null;
    clearTimeout(this.timer);
    this.view.setPreview(null);
  }

  #ask() {
    clearTimeout(this.timer);
    if (!this.wanted) return;
    const now = performance.now();
    if (this.asked && now - this.asked.at < LATE_MS) return; // called again after the answer
    const wait = this.lastAt + APART_MS - now;
    if (wait > 0) {
      this.timer = setTimeout(() => this.#ask(), wait);
      return;
    }
    const { x, y, positive } = this.wanted;
    this.asked = { at: now, place: this.wanted };
    if (this.session?.preview(x, y, positive)) this.lastAt = now;
    else this.asked = null;
  }

  #show(answer) {
    const { place } = this.asked ?? {};
    this.asked = null;
    if (answer.pixels && place && place === this.wanted && this.session.waiting === 0) this.#paint(answer);
    else this.#ask();
  }

  #paint({ patch, pixels }) {
    const [left, top, width, height] = patch.bbox_xywh;
    const now = this.current(), columns = this.view.image.width;
    if (width === 0) return;
    const canvas = painted(width, height, (words) => {
      for (let y = 0, at = 0; y < height; y++) {
        for (let i = (top + y) * columns + left, end = i + width; i < end; i++, at++) {
          const before = now ? now[i] : 0;
          if (before !== pixels[i]) words[at] = pixels[i] ? ADDED : REMOVED;
        }
      }
    });
    this.view.setPreview({ canvas, x: left, y: top });
  }
}
