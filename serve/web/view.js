// Where the image is on the screen: a scale and an offset, and three canvases painted through them.

import { outlineOf, tint } from "./paint.js";

const MAX_SCALE = 64;
const ADD = "#2fbf71", REMOVE = "#f0545b";

export class View {
  constructor(stage) {
    this.stage = stage;
    this.layers = ["image-layer", "mask-layer", "click-layer"].map((id) => stage.querySelector(`#${id}`));
    this.image = null;
    this.scale = 1;
    this.offset = { x: 0, y: 0 };
    this.cursor = null;           // keyboard cursor, image pixels
    this.shapes = [];             // {canvas, outline, color}: what lies on the mask layer
    this.clicks = [];
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
    this.image = image;
    this.shapes = [];
    this.clicks = [];
    this.cursor = null;
    this.fit();
  }

  fit() {
    if (!this.image) return;
    const margin = 24;
    const { clientWidth: width, clientHeight: height } = this.stage;
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

  /** Where the middle of an image pixel is on the stage (CSS pixels). */
  screenAt({ x, y }) {
    return { x: this.offset.x + (x + 0.5) * this.scale, y: this.offset.y + (y + 0.5) * this.scale };
  }

  moveCursor(dx, dy) {
    if (!this.image) return;
    const step = Math.max(1, Math.round(8 / this.scale));
    const from = this.cursor ?? this.pixelAt(this.center()) ??
      { x: Math.floor(this.image.width / 2), y: Math.floor(this.image.height / 2) };
    const within = (value, size) => Math.min(Math.max(value, 0), size - 1);
    this.cursor = { x: within(from.x + dx * step, this.image.width), y: within(from.y + dy * step, this.image.height) };
    this.redraw("clicks");
  }

  /** masks: [{mask: Uint8Array, color}]; painted in this order. Unchanged masks keep what was prepared for them. */
  setMasks(masks) {
    const { width, height } = this.image;
    this.shapes = masks.map(({ mask, color }) => {
      const known = this.shapes.find((shape) => shape.mask === mask && shape.color === color);
      return known ?? { mask, color, canvas: tint(mask, width, height, color), outline: outlineOf(mask, width, height) };
    });
    this.redraw("masks");
  }

  setClicks(clicks, numSettled) {
    this.clicks = clicks;
    this.numSettled = numSettled;
    this.redraw("clicks");
  }

  redraw(...what) {
    for (const name of what.length ? what : ["image", "masks", "clicks"]) this.dirty.add(name);
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = null;
      const dirty = [...this.dirty];
      this.dirty.clear();
      if (dirty.includes("image")) this.#drawImage();
      if (dirty.includes("masks")) this.#drawMasks();
      if (dirty.includes("clicks")) this.#drawClicks();
      this.onDraw?.();
    });
  }

  #begin(index) {
    const layer = this.layers[index];
    const context = layer.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, layer.width, layer.height);
    if (!this.image) return null;
    const zoom = this.scale * this.density;
    context.setTransform(zoom, 0, 0, zoom, this.offset.x * this.density, this.offset.y * this.density);
    context.imageSmoothingEnabled = this.scale < 2; // seen from near, pixels should look like pixels
    context.imageSmoothingQuality = "high";
    return context;
  }

  #drawImage() {
    const context = this.#begin(0);
    context?.drawImage(this.image, 0, 0);
  }

  #drawMasks() {
    const context = this.#begin(1);
    if (!context || this.options.hidden) return;
    context.globalAlpha = this.options.opacity;
    for (const { canvas } of this.shapes) context.drawImage(canvas, 0, 0);
    context.globalAlpha = 1;
    if (!this.options.outline) return;
    context.lineJoin = "round";
    for (const { outline, color } of this.shapes) {
      context.strokeStyle = "rgb(0 0 0 / .55)";
      context.lineWidth = 3.4 / this.scale;
      context.stroke(outline);
      context.strokeStyle = color;
      context.lineWidth = 1.7 / this.scale;
      context.stroke(outline);
    }
  }

  #drawClicks() {
    const context = this.#begin(2);
    if (!context) return;
    context.setTransform(this.density, 0, 0, this.density, 0, 0);
    if (this.options.dots && !this.options.hidden) {
      this.clicks.forEach((click, index) => this.#drawDot(context, click, index < this.numSettled));
    }
    if (this.cursor) this.#drawCursor(context, this.screenAt(this.cursor));
  }

  #drawDot(context, click, settled) {
    const { x, y } = this.screenAt(click);
    context.globalAlpha = settled ? 1 : 0.6;
    context.beginPath();
    context.arc(x, y, 7, 0, 2 * Math.PI);
    context.fillStyle = click.positive ? ADD : REMOVE;
    context.shadowColor = "rgb(0 0 0 / .6)";
    context.shadowBlur = 4;
    context.fill();
    context.shadowBlur = 0;
    context.strokeStyle = "#fff";
    context.lineWidth = 1.6;
    context.stroke();
    context.beginPath();
    context.moveTo(x - 3.2, y);
    context.lineTo(x + 3.2, y);
    if (click.positive) {
      context.moveTo(x, y - 3.2);
      context.lineTo(x, y + 3.2);
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  #drawCursor(context, { x, y }) {
    for (const [color, width] of [["rgb(0 0 0 / .7)", 3.5], ["#fff", 1.5]]) {
      context.strokeStyle = color;
      context.lineWidth = width;
      context.beginPath();
      for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
        context.moveTo(x + 5 * dx, y + 5 * dy);
        context.lineTo(x + 14 * dx, y + 14 * dy);
      }
      context.stroke();
    }
  }
}
