// One session as the user wants it; wire.js brings the session on the server to that state.

import * as api from "./api.js";
import * as errands from "./errands.js";
import { History } from "./history.js";
import { distance } from "./way.js";
import { Wire, pause } from "./wire.js";

export class Session extends Wire {
  get canUndo() { return this.history.past.length > 0; }
  get canRedo() { return this.history.future.length > 0; }
  get waiting() {
    const expected = this.errands.findLast(({ clicks }) => clicks)?.clicks ?? this.settled;
    return distance(expected, this.clicks) + this.errands.length + (this.outdated() ? 1 : 0);
  }
  /** How many of `clicks` are in the server's latest mask. */
  get numSettled() { return this.waiting === 0 ? this.clicks.length : this.errands.length ? 0 : this.settled.length; }

  /** Open the session for the first time; throws if the image is refused. */
  async open() {
    for (let attempt = 0; ; attempt++) {
      try {
        await this.begin();
        if (this.errands.length > 0) this.#change(() => {});
        return;
      } catch (error) {
        if (!error.transient || attempt >= 3) throw error;
        await pause(300 * 2 ** attempt);
      }
    }
  }

  /** Add a click; hold: send it with later ones when `release` is called. */
  click(x, y, positive, { hold = false } = {}) {
    if (hold) this.held ??= this.clicks;
    this.#change(() => this.history.change([...this.clicks, { x, y, positive }]));
  }

  remove(click) {
    this.#change(() => this.history.change(this.clicks.filter((other) => other !== click)));
  }

  release() {
    if (!this.held) return;
    this.held = null;
    this.#change(() => {});
  }

  undo() {
    this.held = null;
    this.#change(() => this.history.undo());
  }

  redo() {
    this.held = null;
    this.#change(() => this.history.redo());
  }

  clear() {
    this.held = null;
    if (this.clicks.length > 0) this.#change(() => this.history.change([]));
  }

  /** Connect to a session that the server has. info: its state; clicks: its clicks; answer: its mask, if any. */
  adopt(info, { clicks, wanted = clicks, objects, base, answer, settings }) {
    const opened = { settings, base };
    Object.assign(this, { id: info.session_id, sequence: info.sequence, width: info.width, height: info.height, info });
    Object.assign(this, { opened, wanted: opened, settled: clicks, kept: new Set(objects), answer });
    this.history = History.of(wanted);
    this.connect();
    this.#change(() => {});
  }

  /** Finish the current object, which is this one, and start the next. */
  finish(object) {
    this.kept.add(object);
    this.#begin(errands.finish(object));
  }

  /** Make each part of the current mask an object; make(objects of the server) returns those that are new. */
  finishParts(label, make, failed) {
    const taken = this.clicks;
    const done = ({ objects }) => {
      for (const object of make(objects)) this.kept.add(object);
      this.answer = null;
      this.wanted = { ...this.wanted, base: null };
      this.history = new History(this.clicks.filter((click) => !taken.includes(click)));
    };
    this.#send(errands.finishParts(label, done, failed));
  }

  /** Make a finished object the current one again; there must be no other. */
  edit(object) {
    this.kept.delete(object);
    this.#begin(errands.edit(object));
  }

  /** Search for all other objects of this one's kind. */
  recall(object, failed) {
    this.#begin(errands.recall(object, (error) => {
      this.wanted = { ...this.wanted, base: this.opened.base };
      failed(error);
    }));
  }

  drop(object) {
    this.kept.delete(object);
    this.#send(errands.drop(object));
  }

  /** Add a finished object that was made elsewhere. */
  keep(object) {
    this.kept.add(object);
    this.#send(errands.add(object));
  }

  /** Start another object on the same image, with these clicks and this initial mask. */
  restart(clicks = [], base = null) {
    this.held = null;
    this.answer = null;
    this.wanted = { ...this.wanted, base };
    this.#change(() => { this.history = new History(clicks); });
  }

  /** Change the model, the refinement or the threshold, and keep the clicks. */
  set(settings) {
    this.#change(() => { this.wanted = { ...this.wanted, settings: { ...this.wanted.settings, ...settings } }; });
  }

  /** Request a preview of one more click, which arrives in `onPreview`; false if that is impossible now. */
  preview(x, y, positive) {
    if (!this.live?.ready || this.waiting > 0) return false;
    this.live.send({ kind: "preview", x, y, positive, id: "preview" });
    return true;
  }

  /** Disconnect; the server keeps the session. */
  leave() {
    this.closed = true;
    this.live?.close();
    this.wake?.();
  }

  close() {
    this.leave();
    if (this.id) api.closeSession(this.id).catch(() => {}); // if this fails, the session expires
  }

  #begin(errand) {
    const { clicks, base } = errand;
    Object.assign(this, { held: null, answer: null, wanted: { ...this.wanted, base } });
    if (this.clicks.length > 0 && errand.rebuild) this.errands.push(errands.clear()); // such as a click without a mask
    this.history = new History(clicks);
    this.#send(errand);
  }

  #send(errand) {
    this.errands.push(errand);
    this.#change(() => {});
  }

  #change(apply) {
    this.closed = false; // used again, for example after the browser restored the page; the session is then rebuilt
    apply();
    this.onChange(this);
    this.push();
  }
}
