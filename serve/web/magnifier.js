// A round magnifier beside the pointer, the finger or the keyboard's cursor, which shows image and mask enlarged.

import { drawCross } from "./dots.js";

const SIZE = 176, GAP = 26;

export class Magnifier {
  constructor(view, canvas) {
    Object.assign(this, { view, canvas, on: false, place: null, touched: false });
  }

  toggle(on = !this.on) {
    this.on = on;
    this.draw();
  }

  /** place: where to look, in CSS pixels on the stage, or null; touched: show the magnifier even if it is off. */
  look(place, touched = false) {
    Object.assign(this, { place, touched });
    this.draw();
  }

  draw() {
    const { view, canvas } = this;
    const place = this.place ?? (view.cursor && view.screenAt(view.cursor));
    canvas.hidden = !(place && view.image && (this.on || this.touched));
    if (canvas.hidden) return;
    const density = view.density, scale = Math.min(Math.max(view.scale * 4, 3), 48);
    const size = Math.round(SIZE * density);
    if (canvas.width !== size) canvas.width = canvas.height = size;
    this.#put(place);
    const middle = { x: (place.x - view.offset.x) / view.scale, y: (place.y - view.offset.y) / view.scale };
    const offset = { x: SIZE / 2 - middle.x * scale, y: SIZE / 2 - middle.y * scale };
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#15171b";
    context.fillRect(0, 0, size, size);
    view.paintImage(context, { scale, offset });
    view.paintMasks(context, { scale, offset });
    context.setTransform(density, 0, 0, density, 0, 0);
    drawCross(context, { x: SIZE / 2, y: SIZE / 2 }, 4, 12);
  }

  // Beside the place, on the side with more room; above a finger, which hides what is under it.
  #put({ x, y }) {
    const { clientWidth: width, clientHeight: height } = this.view.stage;
    const gap = this.touched ? 2 * GAP : GAP;
    let left = x + gap, top = y - gap - SIZE;
    if (this.touched) left = Math.min(Math.max(x - SIZE / 2, 8), width - SIZE - 8);
    else if (left + SIZE > width - 8) left = x - gap - SIZE;
    if (top < 8) top = Math.min(y + gap, height - SIZE - 8);
    this.canvas.style.transform = `translate(${Math.round(left)}px, ${Math.round(top)}px)`;
  }
}
