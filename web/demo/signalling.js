/** What this page asks its signalling server, and the live view of one room. The API key stays on the server. */

import { postJson } from "/thalweg.js";

const POLL_MS = 1000;
/** Between looks at a control plane that does not answer, at most: every tab asks, and it may be starting. */
const POLL_AWAY_MS = 5000;
/** Events come in bursts (a join, then its links): look once after them. */
const SETTLE_MS = 120;

export const getWorld = () => getJson("/signal/world");
export const getProbePlan = (room) => postJson("/signal/probe-plan", { room });
export const getRoom = (room) => getJson(`/signal/room/${encodeURIComponent(room)}`);
export const getDecision = (room, participant) =>
  getJson(`/signal/room/${encodeURIComponent(room)}/decision/${encodeURIComponent(participant)}`);
/** The `signal` function of a Call: the place replaces the probes, because here every edge is equally near. */
export const joinFrom = (place) => (request) => postJson("/signal/join", { ...request, place });
export const leave = (room, participant) =>
  postJson("/signal/leave", { room, participant }, { keepalive: true }).catch(() => null);

async function getJson(path) {
  const response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(4000) });
  const body = await response.json();
  if (!response.ok) throw Object.assign(new Error(body.detail ?? response.statusText), body);
  return body;
}

const EVENT_TYPES = [
  ...["participant.assigned", "participant.moved", "participant.ended", "cascade.changed", "topology.changed"],
  ...["node.ready", "node.lost", "node.draining", "node.drained"],
];

/**
 * Follows a room. Events: "view" (detail: {room, nodes}, once a second and after anything happened),
 * "happened" (detail: {type, data}), "away" and "back" (the control plane stopped or began to answer).
 */
export class RoomFeed extends EventTarget {
  #source = null;
  #last = "";
  #timer = 0;
  /** Looks in a row that got no answer. */
  #unanswered = 0;

  constructor(room) {
    super();
    this.room = room;
    this.closed = false;
    this.onVisibility = () => this.#stream();
    document.addEventListener("visibilitychange", this.onVisibility);
    this.#stream();
    this.#poll();
  }

  close() {
    this.closed = true;
    this.#source?.close();
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.onVisibility);
  }

  /**
   * Hidden tabs only poll: browsers open six connections to a server for all tabs together, and a stream holds
   * one for ever.
   */
  #stream() {
    this.#source?.close();
    this.#source = null;
    if (document.hidden || this.closed) return;
    const after = this.#last ? `&after=${this.#last}` : "";
    this.#source = new EventSource(`/signal/events?room=${encodeURIComponent(this.room)}${after}`);
    for (const type of EVENT_TYPES) {
      this.#source.addEventListener(type, (event) => {
        this.#last = event.lastEventId;
        this.dispatchEvent(new CustomEvent("happened", { detail: { type, data: JSON.parse(event.data) } }));
        this.#schedule(SETTLE_MS);
      });
    }
  }

  #schedule(ms) {
    clearTimeout(this.#timer);
    if (!this.closed) this.#timer = setTimeout(() => this.#poll(), ms);
  }

  async #poll() {
    try {
      const [room, { nodes }] = await Promise.all([getRoom(this.room), getJson("/signal/nodes")]);
      if (this.closed) return;
      const wasAway = this.#unanswered > 0;
      this.#unanswered = 0;
      if (wasAway) this.dispatchEvent(new CustomEvent("back"));
      // An EventSource that was refused once does not come back by itself.
      if (this.#source?.readyState === EventSource.CLOSED) this.#stream();
      this.dispatchEvent(new CustomEvent("view", { detail: { room, nodes } }));
    } catch (error) {
      if (this.closed) return;
      this.#unanswered += 1;
      if (this.#unanswered === 1) this.dispatchEvent(new CustomEvent("away", { detail: error }));
    }
    this.#schedule(Math.min(POLL_AWAY_MS, POLL_MS * 2 ** Math.min(this.#unanswered, 3)));
  }
}
