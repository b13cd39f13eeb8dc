// One session on the server, seen from here: changes wait in line, are numbered so that a retry is safe, and survive
// the session itself: when the server has forgotten it, it is opened again and its clicks are repeated.

import * as api from "./api.js";

const RETRIES = 3;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Session {
  /** onChange(session) after every step; onError(error) when a change was refused. */
  constructor(blob, { onChange, onError }) {
    this.blob = blob;
    this.onChange = onChange;
    this.onError = onError;
    this.id = null;
    this.sequence = 0;
    this.clicks = [];   // as the person sees them, waiting ones included
    this.undone = [];
    this.settled = [];  // those the server has answered for
    this.answer = null;
    this.waiting = 0;
    this.line = Promise.resolve();
    this.closed = false;
  }

  async open() {
    const opened = await api.openSession(this.blob);
    Object.assign(this, { id: opened.session_id, sequence: 0, width: opened.width, height: opened.height });
    return opened;
  }

  click(x, y, positive) {
    this.undone = [];
    return this.#add({ x, y, positive });
  }

  undo() {
    if (this.clicks.length === 0) return this.line;
    this.undone = [...this.undone, this.clicks.at(-1)];
    this.clicks = this.clicks.slice(0, -1);
    return this.#enqueue("undo", null, (settled) => settled.slice(0, -1));
  }

  redo() {
    if (this.undone.length === 0) return this.line;
    const click = this.undone.at(-1);
    this.undone = this.undone.slice(0, -1);
    return this.#add(click); // making the click again is the same, and needs no memory on the server
  }

  clear() {
    if (this.clicks.length === 0) return this.line;
    this.undone = [...this.undone, ...[...this.clicks].reverse()];
    this.clicks = [];
    return this.#enqueue("clear", null, () => []);
  }

  /** Begin the next object on the same image; `clicks` to begin with those of an object to edit. */
  restart(clicks = []) {
    this.clicks = [];
    this.undone = [];
    this.answer = null;
    this.#enqueue("clear", null, () => []);
    for (const { x, y, positive } of clicks) this.#add({ x, y, positive });
    return this.line;
  }

  close() {
    this.closed = true;
    if (this.id) api.closeSession(this.id).catch(() => {}); // it would expire by itself
  }

  #add(click) {
    this.clicks = [...this.clicks, click];
    return this.#enqueue("clicks", click, (settled) => [...settled, click]);
  }

  #enqueue(kind, click, apply) {
    this.waiting++;
    this.closed = false; // used again, say on a page that came back: the server has forgotten it, so it is rebuilt
    const run = async () => {
      if (this.closed) {
        this.waiting--;
        this.clicks = this.settled;
        return;
      }
      let failure = null;
      try {
        this.answer = await this.#send(kind, click ?? {});
        this.settled = apply(this.settled);
        this.sequence = this.answer.sequence;
      } catch (error) {
        failure = error;
        this.clicks = this.clicks.filter((other) => other !== click);
        this.undone = [];
      }
      this.waiting--;
      if (this.waiting === 0) this.clicks = this.settled;
      if (this.closed) return;
      this.onChange(this);
      if (failure) this.onError(failure);
    };
    this.line = this.line.then(run);
    this.onChange(this);
    return this.line;
  }

  async #send(kind, body) {
    for (let attempt = 0; ; attempt++) {
      try {
        return await api.change(this.id, kind, { ...body, sequence: this.sequence + 1 });
      } catch (error) {
        if (attempt >= RETRIES) throw error;
        if (error.lost || error.code === "stale_sequence") await this.#rebuild();
        else if (error.transient) await pause(300 * 2 ** attempt);
        else throw error;
      }
    }
  }

  async #rebuild() {
    await this.open();
    for (const click of this.settled) this.sequence = (await api.change(this.id, "clicks", click)).sequence;
  }
}
