// Smaller versions of a large image, because painting a whole 4K image at every turn of the wheel is slow.

const SMALLEST = 1200;

export class Sizes {
  /** onMore() when a smaller size is ready. */
  constructor(image, onMore) {
    this.levels = [image];
    this.closed = false;
    this.#add(onMore);
  }

  /** The smallest version with at least one pixel per screen pixel, at `zoom` screen pixels per image pixel. */
  at(zoom) {
    const full = this.levels[0].width;
    return this.levels.findLast(({ width }) => width >= full * zoom) ?? this.levels[0];
  }

  close() {
    this.closed = true;
    for (const level of this.levels) level.close();
  }

  async #add(onMore) {
    for (let last = this.levels[0]; Math.max(last.width, last.height) >= 2 * SMALLEST; ) {
      const resizeWidth = Math.round(last.width / 2), resizeHeight = Math.round(last.height / 2);
      const level = await createImageBitmap(last, { resizeWidth, resizeHeight, resizeQuality: "medium" });
      if (this.closed) {
        level.close();
        return;
      }
      this.levels.push(level);
      last = level;
      onMore();
    }
  }
}
