// Brings the session on the server to the wanted state (clicks, settings, initial mask, finished objects). The changes that
// lead there are sent over the live socket, many in flight, or one by one over HTTP without it. So no click is lost when the
// socket or the session ends. Changes of finished objects, the errands, are sent between clicks.

import * as api from "./api.js";
import * as errands from "./errands.js";
import { History } from "./history.js";
import { Live } from "./live.js";
import { decode } from "./rle.js";
import { nextStep } from "./way.js";

const MAX_IN_FLIGHT = 32;
const MAX_FAILED_SOCKETS = 3;
const GONE = [4404, 4410];
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export class Wire {
  /** onChange(session) after every step; onError(error) after a refusal; settings: model, refinement, mask_threshold. */
  constructor(blob, { onChange, onError, settings = {} }) {
    Object.assign(this, { blob, onChange, onError });
    this.history = new History();
    this.wanted = { settings, base: null }; // base: {mask, exemplar} in RLE, with which the session starts
    this.opened = null;   // the same, as the server has it
    this.id = null;
    this.sequence = 0;
    this.kept = new Set(); // finished objects that the server has, or will have
    this.errands = [];    // changes of these that the server has not made yet
    this.settled = [];    // clicks that the server has answered
    this.flight = [];     // changes on the socket without an answer
    this.doubt = [];      // changes whose answer is lost, so that they may have been made or not
    this.answer = null;   // the newest answer with a mask, with `pixels`
    this.held = null;     // clicks that may be sent, while later ones are held back
    this.live = null;
    this.failedSockets = 0;
    this.number = 0;
    this.closed = false;
    this.running = false;
    this.wake = null;
    this.failure = null;
    this.asked = null;
    this.onPreview = null;
  }

  get clicks() { return this.history.clicks; }

  /** Send new changes, now or as soon as possible. */
  push() {
    if (this.live?.ready && this.flight.length > 0) this.#flush();
    if (!this.running) this.#run();
  }

  #goal() { return this.held ?? this.clicks; }

  #reopens() {
    const { settings, base } = this.wanted;
    if (this.id === null || settings.model !== this.opened.settings.model) return true;
    return this.errands.length === 0 && base !== this.opened.base; // errands may set the base
  }

  /** Whether the server's session differs from the wanted one in its base or its settings. */
  outdated() {
    if (this.#reopens()) return true;
    const { settings } = this.wanted, { settings: now } = this.opened;
    return settings.refinement !== now.refinement || settings.mask_threshold !== now.mask_threshold;
  }

  // Sends everything, one change after the other.
  async #run() {
    this.running = true;
    let failures = 0;
    while (!this.closed && this.#unfinished()) {
      try {
        this.connect();
        await this.#advance();
        failures = 0;
      } catch (error) {
        if (error.lost || error.code === "stale_sequence") this.id = null;
        else if (error.transient) {
          if (failures++ === 3) this.onError(error); // shown once; the clicks are sent when the server is back
          await pause(Math.min(150 * 2 ** failures, 8000));
        } else this.#refused(error);
      }
      if (!this.closed) this.onChange(this);
    }
    this.running = false;
  }

  #unfinished() {
    const under = this.flight.length + this.doubt.length + this.errands.length;
    return under > 0 || this.outdated() || nextStep(this.settled, this.#goal());
  }

  async #advance() {
    if (this.flight.length === 0) {
      if (this.#reopens()) return this.begin();
      if (this.doubt.length > 0) return this.#catchUp();
      if (this.errands.length > 0) return this.#errand(this.errands[0]);
      if (this.outdated()) return this.#set();
      if (!this.live?.ready) return this.#request(nextStep(this.settled, this.#goal()));
      this.#flush();
    }
    await new Promise((resolve) => { this.wake = resolve; }); // until an answer arrives or the socket ends
    const failure = this.failure;
    this.failure = null;
    if (failure) throw failure;
  }

  /** Open a session in the wanted state, which replaces the previous one. */
  async begin() {
    const { settings, base } = this.wanted;
    this.asked = { kind: "open" };
    const before = this.id;
    const opened = await api.openSession(this.blob, settings, base ?? {});
    this.live?.close();
    this.live = null;
    this.failedSockets = 0;
    Object.assign(this, { id: opened.session_id, sequence: 0, settled: [], doubt: [], opened: { settings, base } });
    Object.assign(this, { width: opened.width, height: opened.height, info: opened });
    for (const object of this.kept) object.number = null;
    this.errands = [...this.kept].map(errands.add); // replaces all earlier errands, with the same result
    if (before) api.closeSession(before).catch(() => {}); // if this fails, the session expires
    if (this.#goal().length === 0) this.answer = null; // no request will bring another mask
    if (this.closed) api.closeSession(this.id).catch(() => {});
    else this.connect();
  }

  #set() {
    const { settings } = this.wanted, { settings: now } = this.opened;
    const changed = Object.fromEntries(Object.entries(settings).filter(([name, value]) => now[name] !== value));
    return this.#request({ kind: "settings", body: changed, clicks: this.settled, settings });
  }

  async #errand(errand) {
    if (!errand.needs || errand.needs.number) return this.#request({ ...errand, ...errand.request(), errand });
    if (errand.rebuild) this.id = null;
    this.#done(errand);
  }

  #done(errand) {
    this.errands = this.errands.filter((other) => other !== errand);
  }

  async #request(step) {
    this.asked = step;
    const sequence = this.sequence + 1;
    try {
      const answer = await api.change(this.id, step.kind, { ...step.click, ...step.body, sequence }, step.method);
      this.#settle(step, answer);
    } catch (error) {
      if (error.transient) this.doubt = [{ ...step, sequence }]; // the change may have been made
      throw error;
    }
  }

  #settle({ clicks, settings, base, errand }, answer) {
    this.settled = clicks ?? this.settled;
    this.sequence = answer.sequence;
    if (settings) this.opened = { ...this.opened, settings };
    if (base !== undefined) this.opened = { ...this.opened, base };
    if (errand) {
      this.#done(errand);
      errand.done?.(answer);
      if (!errand.brings) return; // its mask is known already
    }
    if (answer.mask) answer.pixels = decode(answer.mask);
    if (answer.pixels) this.answer = answer;
  }

  // Remove a change that was refused for good from the wanted state.
  #refused(error) {
    const { kind, click, errand } = this.asked;
    if (errand) {
      this.#done(errand);
      if (errand.rebuild && error.code !== "no_exemplar") this.id = null;
      else {
        this.kept.delete(errand.object);
        errand.failed?.(error);
        if (error.code !== "object_unknown") this.onError(error);
      }
      return;
    }
    if (kind === "open" && !this.opened) this.closed = true;
    else if (kind === "open" || kind === "settings") this.wanted = this.opened;
    else if (click) this.history.drop(click);
    else this.history = new History(this.settled);
    if (kind === "open") this.opened = null; // a second refusal ends the session
    this.onError(error);
  }

  connect() {
    if (this.live || this.id === null || this.failedSockets >= MAX_FAILED_SOCKETS) return;
    let ready = false;
    const listeners = {
      onReady: () => { ready = true; },
      onAnswer: (answer) => { if (live === this.live) this.#answered(answer); },
      onEnd: (code) => {
        if (live !== this.live) return;
        Object.assign(this, { live: null, doubt: [...this.doubt, ...this.flight], flight: [] });
        if (!ready) this.failedSockets++;
        if (GONE.includes(code)) this.id = null;
        this.wake?.();
      },
    };
    let live = null;
    try {
      live = new Live(this.id, this.width, this.height, listeners);
    } catch {
      this.failedSockets = MAX_FAILED_SOCKETS; // the token cannot be a subprotocol, so use HTTP
    }
    this.live = live;
  }

  #flush() {
    if (this.errands.length > 0 || this.outdated()) return; // these go over HTTP once all changes in flight are answered
    let clicks = this.flight.at(-1)?.clicks ?? this.settled;
    for (let step; this.flight.length < MAX_IN_FLIGHT && (step = nextStep(clicks, this.#goal())); clicks = step.clicks) {
      const id = `${++this.number}`;
      const kind = step.kind === "clicks" ? "click" : step.kind;
      const sequence = this.sequence + this.flight.length + 1;
      this.flight.push({ ...step, id, sequence });
      this.live.send({ kind, ...step.click, sequence, id, latest: true });
    }
  }

  #answered(answer) {
    if (answer.preview) {
      this.onPreview?.(answer);
      return;
    }
    const [first] = this.flight;
    if (first?.id === answer.id && answer.code) {
      // The changes after it are refused for their numbers; their answers are not awaited.
      Object.assign(this, { flight: [], asked: first });
      this.failure = new api.ApiError(answer.code, answer.detail, answer.status);
    } else if (first?.id === answer.id) {
      this.flight.shift();
      this.#settle(first, answer);
      this.#flush();
    } else if (answer.pixels && answer.sequence === this.sequence) this.answer = answer; // the mask of a superseded answer
    this.wake?.();
  }

  // Find out which of the unanswered changes were made.
  async #catchUp() {
    const { sequence } = await api.sessionState(this.id);
    const sent = this.doubt, made = sequence - this.sequence;
    this.doubt = [];
    if (made < 0 || made > sent.length) this.id = null; // an unknown state: rebuild the session
    else if (made > 0) {
      if (made > 1) this.#settle(sent[made - 2], sent[made - 2]);
      await this.#request(sent[made - 1]); // with its number, so that it is not made twice and its mask arrives
    }
  }
}
