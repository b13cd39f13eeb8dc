// The image on the screen: a scale, an offset, and three canvases that are painted with them.

import { DOT_RADIUS, drawCross, drawDot } from "./dots.js";
import { outlineOf, tint } from "./paint.js";
import { Sizes } from "./sizes.js";

const MAX_SCALE = 64;

export class View {
  constructor(stage) {
    this.stage = stage;
    this.layers = ["image-layer", "mask-layer", "click-layer"].map((id) => stage.querySelector(`#${id}`));
    this.image = null;            // its width and height; the pixels are in `sizes`
    this.scale = 1;
    this.offset = { x: 0, y: 0 };
    this.cursor = null;           // keyboard cursor, image pixels
    this.shapes = [];             // {key, canvas, outline, box, color} of the masks
    this.overlay = null;          // a canvas of the image's size, shown instead of the masks, such as the probability
    this.preview = null;          // {canvas, x, y} of what one more click would change
    this.clicks = [];
    this.aimed = null;            // the click under the pointer
    this.numSettled = 0;
    this.options = { opacity: 0.45, outline: true, dots: true, hidden: false };
    this.fitted = true;
    this.dirty = new Set();
    new ResizeObserver(() => this.resize()).observe(stage);
    this.resize();
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const density = window.devicePixelRatio || 1;
    this.density = density;
    for (const layer of this.layers) {
      layer.width = Math.round(width * density);
      layer.height = Math.round(height * density);
    }
    if (this.image && this.fitted) this.fit();
    this.redraw();
  }

  show(image) {
    this.sizes?.close();
    this.sizes = new Sizes(image, () => this.redraw("image"));
    this.image = { width: image.width, height: image.height };
    Object.assign(this, { shapes: [], clicks: [], cursor: null, overlay: null, preview: null, aimed: null });
    this.fit();
  }

  fit() {
    if (!this.image) return;
    const { clientWidth: width, clientHeight: height } = this.stage;
    const margin = width < 600 ? 8 : 24;
    this.scale = Math.max(Math.min((width - 2 * margin) / this.image.width, (height - 2 * margin) / this.image.height, 8), 0.01);
    this.minScale = this.scale / 4;
    this.offset = { x: (width - this.image.width * this.scale) / 2, y: (height - this.image.height * this.scale) / 2 };
    this.fitted = true;
    this.redraw();
  }

  zoomAt(factor, screen) {
    if (!this.image) return;
    const scale = Math.min(Math.max(this.scale * factor, this.minScale), MAX_SCALE);
    const ratio = scale / this.scale;
    this.offset = { x: screen.x - (screen.x - this.offset.x) * ratio, y: screen.y - (screen.y - this.offset.y) * ratio };
    this.scale = scale;
    this.fitted = false;
    this.redraw();
  }

  panBy(dx, dy) {
    if (!this.image) return;
    this.offset = { x: this.offset.x + dx, y: this.offset.y + dy };
    this.fitted = false;
    this.redraw();
  }

  center() {
    return { x: this.stage.clientWidth / 2, y: this.stage.clientHeight / 2 };
  }

  /** The image pixel under a place on the stage (CSS pixels), or null outside the image. */
  pixelAt({ x, y }) {
    if (!this.image) return null;
    const column = Math.floor((x - this.offset.x) / this.scale);
    const row = Math.floor((y - this.offset.y) / this.scale);
    const inside = column >= 0 && row >= 0 && column < this.image.width && row < this.image.height;
    return inside ? { x: column, y: row } : null;
  }

  /** The centre of an image pixel on the stage (CSS pixels). */
  screenAt({ x, y }) {
    return { x: this.offset.x + (x + 0.5) * this.scale, y: this.offset.y + (y + 0.5) * this.scale };
  }

  /** The newest click whose dot is under a place on the stage, or null. */
  clickAt(place) {
    if (!this.options.dots || this.options.hidden) return null;
    return this.clicks.findLast((click) => {
      const { x, y } = this.screenAt(click);
      return Math.hypot(x - place.x, y - place.y) <= DOT_RADIUS;
    }) ?? null;
  }

  moveCursor(dx, dy) {
    if (!this.image) return;
    const step = Math.max(1, Math.round(8 / this.scale));
    const from = this.cursor ?? this.pixelAt(this.center()) ??
      { x: Math.floor(this.image.width / 2), y: Math.floor(this.image.height / 2) };
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    this.cursor = { x: within(from.x + dx * step, this.image.width), y: within(from.y + dy * step, this.image.height) };
    this.#follow();
    this.redraw("clicks");
  }

  // Pan so that the cursor stays visible.
  #follow() {
    const { x, y } = this.screenAt(this.cursor), { clientWidth: width, clientHeight: height } = this.stage;
    const margin = 40;
    const beyond = (value, size) => Math.max(margin - value, 0) || Math.min(size - margin - value, 0);
    const dx = beyond(x, width), dy = beyond(y, height);
    if (dx || dy) this.panBy(dx, dy);
  }

  /** masks: [{key, color, box, read()}], painted in this order. Canvas and outline are cached by key and color. */
  setMasks(masks) {
    const { width, height } = this.image;
    this.shapes = masks.map(({ key, color, box, read }) => {
      const known = this.shapes.find((shape) => shape.key === key && shape.color === color);
      if (known) return known;
      const mask = read();
      return { key, color, box, canvas: tint(mask, width, box, color), outline: outlineOf(mask, width, height, box) };
    });
    this.redraw("masks");
  }

  setOverlay(canvas) {
    this.overlay = canvas;
    this.redraw("masks");
  }

  setPreview(preview) {
    if (this.preview === preview) return;
    this.preview = preview;
    this.redraw("masks");
  }

  setClicks(clicks, numSettled) {
    this.clicks = clicks;
    this.numSettled = numSettled;
    this.redraw("clicks");
  }

  aim(click) {
    if (this.aimed === click) return;
    this.aimed = click;
    this.stage.classList.toggle("aimed", click !== null);
    this.redraw("clicks");
  }

  redraw(...what) {
    for (const name of what.length ? what : ["image", "masks", "clicks"]) this.dirty.add(name);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      const dirty = [...this.dirty];
      this.dirty.clear();
      if (dirty.includes("image")) this.paintImage(this.#begin(0), this);
      if (dirty.includes("masks")) this.paintMasks(this.#begin(1), this);
      if (dirty.includes("clicks")) this.#drawClicks(this.#begin(2));
      this.onDraw?.();
    });
  }

  #begin(index) {
    const layer = this.layers[index];
    const context = layer.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, layer.width, layer.height);
    return context;
  }

  // Transform the context to image pixels. `at`: {scale, offset} in CSS pixels.
  #through(context, { scale, offset }) {
    const zoom = scale * this.density;
    context.setTransform(zoom, 0, 0, zoom, offset.x * this.density, offset.y * this.density);
    context.imageSmoothingEnabled = scale < 2; // enlarged pixels keep sharp edges
    context.imageSmoothingQuality = zoom < 0.6 ? "medium" : "low"; // enough, because sizes.js provides smaller versions
  }

  paintImage(context, at) {
    if (!this.image) return;
    this.#through(context, at);
    context.drawImage(this.sizes.at(at.scale * this.density), 0, 0, this.image.width, this.image.height);
  }

  paintMasks(context, at) {
    if (!this.image || this.options.hidden) return;
    this.#through(context, at);
    if (this.overlay) {
      context.drawImage(this.overlay, 0, 0);
      return;
    }
    context.globalAlpha = this.options.opacity;
    for (const { canvas, box } of this.shapes) context.drawImage(canvas, box.x, box.y);
    context.globalAlpha = 1;
    if (this.preview) context.drawImage(this.preview.canvas, this.preview.x, this.preview.y);
    if (!this.options.outline) return;
    context.lineJoin = "round";
    for (const { outline, color } of this.shapes) {
      context.strokeStyle = "rgb(0 0 0 / .55)";
      context.lineWidth = 3.4 / at.scale;
      context.stroke(outline);
      context.strokeStyle = color;
      context.lineWidth = 1.7 / at.scale;
      context.stroke(outline);
    }
  }

  #drawClicks(context) {
    if (!this.image) return;
    context.setTransform(this.density, 0, 0, this.density, 0, 0);
    if (this.options.dots && !this.options.hidden) {
      this.clicks.forEach((click, index) => {
        drawDot(context, this.screenAt(click), click.positive, { settled: index < this.numSettled, aimed: click === this.aimed });
      });
    }
    if (this.cursor) drawCross(context, this.screenAt(this.cursor));
  }
}
