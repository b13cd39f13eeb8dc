// Shows how the mask was made, on demand: the steps of the newest click as a strip, and the probability over the image.

import * as api from "./api.js";
import { measure, painted, tint, word } from "./paint.js";
import { decode } from "./rle.js";

const THUMB = { width: 128, height: 92 };

// From black over blue and orange to white: dark is certainly outside, bright is certainly inside.
const STOPS = [[0, [10, 12, 24], 225], [0.25, [45, 60, 160], 215], [0.5, [150, 70, 170], 205], [0.75, [245, 150, 70], 195], [1, [255, 245, 200], 185]];
const COLORS = Uint32Array.from({ length: 256 }, (_, value) => {
  const at = value / 255;
  const next = Math.max(STOPS.findIndex(([stop]) => stop >= at), 1);
  const [from, low, lowAlpha] = STOPS[next - 1], [to, high, highAlpha] = STOPS[next];
  const mix = (a, b) => Math.round(a + (b - a) * (at - from) / (to - from));
  return word(low.map((part, i) => mix(part, high[i])), mix(lowAlpha, highAlpha));
});

/** The server's grey PNG as a canvas in color. */
export async function heat(blob) {
  const image = await createImageBitmap(blob);
  const reader = new OffscreenCanvas(image.width, image.height).getContext("2d", { willReadFrequently: true });
  reader.drawImage(image, 0, 0);
  const { data } = reader.getImageData(0, 0, image.width, image.height);
  return painted(image.width, image.height, (words) => {
    for (let i = 0; i < words.length; i++) words[i] = COLORS[data[4 * i]];
  });
}

export class Inside {
  /** strip: the element for the steps; onStep(step or null) shows the mask of a step; onError(error). */
  constructor(view, strip, { onStep, onError }) {
    Object.assign(this, { view, strip, onStep, onError });
    this.steps = false;
    this.probability = false;
    this.turn = 0;
    this.asked = []; // the inputs of what is shown
  }

  /** Show the steps and the probability of the session's newest mask, and remove those of others. */
  async update(session, color) {
    const asked = [session?.answer, this.steps, this.probability, session?.waiting === 0];
    if (asked.every((value, i) => value === this.asked[i])) return;
    this.asked = asked;
    const turn = ++this.turn;
    const known = session && session.waiting === 0 && session.answer && session.clicks.length > 0;
    if (!known || !this.probability) this.view.setOverlay(null);
    if (!known || !this.steps) this.#show([]);
    if (!known) return;
    try {
      const [steps, blob] = await Promise.all([
        this.steps ? api.steps(session.id) : null, this.probability ? api.probability(session.id) : null]);
      const overlay = blob ? await heat(blob) : null;
      if (turn !== this.turn) return;
      if (steps) this.#show(steps, color);
      if (overlay) this.view.setOverlay(overlay);
    } catch (error) {
      if (turn === this.turn && !error.lost) this.onError(error);
    }
  }

  #show(steps, color) {
    this.strip.hidden = steps.length === 0;
    if (steps.length === 0 && this.strip.childElementCount === 0) return;
    this.onStep(null);
    const { width, height } = this.view.image ?? { width: 1, height: 1 };
    const read = steps.map((step) => {
      const mask = decode(step.mask);
      return { ...step, mask, box: measure(mask, width, height) };
    });
    const around = union(read.map(({ box }) => box), width, height);
    this.strip.replaceChildren(...read.map((step) => this.#thumb(step, around, color)));
  }

  #thumb(step, around, color) {
    const button = document.createElement("button");
    const canvas = Object.assign(document.createElement("canvas"), { width: 2 * THUMB.width, height: 2 * THUMB.height });
    const scale = Math.min(THUMB.width / around.width, THUMB.height / around.height);
    const offset = {
      x: (THUMB.width - around.width * scale) / 2 - around.x * scale,
      y: (THUMB.height - around.height * scale) / 2 - around.y * scale,
    };
    const context = canvas.getContext("2d");
    const zoom = 2 * scale;
    context.setTransform(zoom, 0, 0, zoom, 2 * offset.x, 2 * offset.y);
    this.view.paintImage(context, { scale: zoom / this.view.density, offset: { x: 2 * offset.x / this.view.density, y: 2 * offset.y / this.view.density } });
    context.globalAlpha = 0.6;
    if (step.box.area) context.drawImage(tint(step.mask, this.view.image.width, step.box, color), step.box.x, step.box.y);
    const changed = step.num_changed ? `${step.num_changed.toLocaleString("en")} px changed` : "unchanged";
    const label = Object.assign(document.createElement("span"), { textContent: step.name });
    const note = Object.assign(document.createElement("small"), { textContent: changed });
    button.append(canvas, label, note);
    for (const name of ["pointerenter", "focus"]) button.addEventListener(name, () => this.onStep(step));
    for (const name of ["pointerleave", "blur"]) button.addEventListener(name, () => this.onStep(null));
    return button;
  }
}

// A box around all boxes, with a margin.
function union(boxes, width, height) {
  const full = boxes.filter(({ area }) => area > 0);
  if (full.length === 0) return { x: 0, y: 0, width, height };
  const left = Math.min(...full.map(({ x }) => x)), top = Math.min(...full.map(({ y }) => y));
  const right = Math.max(...full.map((box) => box.x + box.width)), bottom = Math.max(...full.map((box) => box.y + box.height));
  const room = 0.12 * Math.max(right - left, bottom - top) + 4;
  const x = Math.max(left - room, 0), y = Math.max(top - room, 0);
  return { x, y, width: Math.min(right + room, width) - x, height: Math.min(bottom + room, height) - y };
}
