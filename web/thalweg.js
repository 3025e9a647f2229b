/**
 * Thalweg's client: measure round trips, join, publish (WHIP, RFC 9725), subscribe (WHEP), and stay connected.
 *
 *     const call = new Call({ signal: (request) => postJson("/join", request), room: "standup",
 *                             participant: "ana", stream: await navigator.mediaDevices.getUserMedia({...}) });
 *     call.addEventListener("participants", ({ detail }) => show(detail));  // [{participant, stream, hops, …}]
 *     await call.start();
 *
 * One file, no dependencies, for browsers since 2024. It never sees an API key: `signal` asks your own signalling
 * server, which asks Thalweg (examples/signalling_server.py is the other side). `Call` is all that most pages need;
 * `probe`, `join`, `publish` and `subscribe` are its parts.
 *
 * @module thalweg
 */

/**
 * @typedef {object} Node
 * @property {string} id
 * @property {string} region
 * @property {string} whip_url
 * @property {string} whep_url
 * @property {RTCIceServer[]} [ice_servers]  Of a fallback: those of its region, instead of the assignment's.
 *
 * @typedef {object} Assignment  What Thalweg answers to a join; the signalling server passes it on unchanged.
 * @property {Node} node
 * @property {string} token  Bearer token, good for the node and its fallbacks; short-lived: use it at once.
 * @property {number} epoch  Grows with every new assignment of the participant.
 * @property {RTCIceServer[]} ice_servers
 * @property {Node[]} fallbacks
 * @property {{because: string[]}} decision
 *
 * @typedef {object} ProbeTarget
 * @property {string} region
 * @property {string} url  Of a node there that answers with nothing.
 *
 * @typedef {object} ProbePlan  What POST /v1/probe-plans answers.
 * @property {ProbeTarget[]} regions  To be measured.
 * @property {ProbeTarget[]} [more]  To be measured too when all of `regions` are further than `more_above_ms`.
 * @property {number|null} [more_above_ms]
 *
 * @typedef {object} Probe
 * @property {string} region
 * @property {number[]} rtt_ms  One round trip per sample, in milliseconds.
 *
 * @typedef {object} JoinRequest
 * @property {string} room
 * @property {string} participant
 * @property {string} session  The same session gets the same assignment again.
 * @property {Probe[]} probes
 * @property {string[]} exclude_nodes  Nodes that did not answer this client.
 *
 * @typedef {(request: JoinRequest) => Promise<Assignment>} Signal
 *
 * @typedef {object} Slot  One receiving m-line. Who is in it changes during the call, without renegotiation.
 * @property {string} mid
 * @property {"audio"|"video"} kind
 * @property {string|null} participant  Who is in the slot now.
 * @property {string|null} track
 * @property {number} hops  Links between edges that the media crosses: 0 for somebody on the same edge.
 * @property {string|null} originNode
 * @property {MediaStreamTrack} media
 *
 * @typedef {object} Remote  Somebody else in the call.
 * @property {string} participant
 * @property {MediaStream} stream  Stays the same object for as long as the participant is there.
 * @property {number} hops
 * @property {string|null} originNode
 */

/** Regions measured at a time: enough that seven take two turns, few enough that they do not queue behind each other. */
const PROBES_AT_ONCE = 4;
/** Patience of a whole `probe`: people wait for the join behind it, and what is known by then is enough. */
const PROBE_WITHIN_MS = 5000;
/** Answers of a node over HTTP: a reachable one takes milliseconds, so this is the patience for a dead one. */
const HTTP_TIMEOUT_MS = 4000;
/** From the answer to connected: ICE and DTLS are four round trips; 300 ms each and two losses fit. */
const CONNECT_TIMEOUT_MS = 8000;
/** ICE says "disconnected" on a short gap too (a Wi-Fi roams in 1 to 2 s); longer than that and we act. */
const DISCONNECTED_GRACE_MS = 2500;
/** Of one outage. With the back-off below they last about half a minute. */
const MAX_ATTEMPTS = 9;
const BACKOFF_FIRST_MS = 250;
const BACKOFF_LAST_MS = 8000;
/** A node that breaks its slot stream and then refuses two connections this far apart is gone. */
const SLOTS_RETRY_MS = 300;
/** One event of the slot stream; a slot is about 150 characters. */
const MAX_EVENT_CHARS = 262144;
/** As many as the join API needs to hear of in one outage. */
const MAX_EXCLUDED = 16;

/** Everything that this module throws. `code` is stable; switch on it. */
export class ThalwegError extends Error {
  /**
   * @param {string} code  "node_unreachable", "connection_failed", "connection_timeout", "bad_answer", "gave_up",
   *   "closed", "http_STATUS", or the code of the problem document (RFC 9457) that a server sent.
   * @param {string} message
   * @param {{status?: number, hint?: string, retryAfterS?: number, cause?: unknown}} [more]
   */
  constructor(code, message, { status, hint, retryAfterS, cause } = {}) {
    super(message, { cause });
    this.name = "ThalwegError";
    this.code = code;
    this.status = status;
    this.hint = hint;
    this.retryAfterS = retryAfterS;
  }
}

/**
 * POST JSON and return the JSON answer: the usual way to write a `signal` function.
 *
 * @param {string} url
 * @param {object} body
 * @param {RequestInit} [init]
 * @returns {Promise<any>}
 * @throws {ThalwegError} With the code of the problem document, or "node_unreachable".
 */
export async function postJson(url, body, init = {}) {
  const headers = { "Content-Type": "application/json", ...init.headers };
  const response = await request(url, { method: "POST", ...init, headers, body: JSON.stringify(body) });
  if (!response.ok) throw await failure(response);
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

/**
 * Measure the round trips that Thalweg wants to know before it places this client.
 *
 * Placement by measured round trips is what keeps a call's delay low, and the smallest of a few samples is what the path
 * has without the queues that the others met. So each region gets one request that is not counted, because it opens
 * the connection (DNS, TCP, TLS: three round trips of their own), and then `samples` small ones, one after the other,
 * so that they do not wait for each other. The regions run side by side. When even the nearest of `regions` is further
 * than `more_above_ms`, the client is not where its address seemed to be, and `more`, spread over the world, finds out
 * where it is.
 *
 * Never throws: a client that could not measure still joins, and is placed by its address.
 *
 * @param {ProbePlan|ProbeTarget[]} plan  The answer of POST /v1/probe-plans, or its `regions` alone.
 * @param {{samples?: number, timeoutMs?: number}} [options]  timeoutMs is the patience for one answer.
 * @returns {Promise<Probe[]>} All samples; a region that did not answer is missing.
 */
export async function probe(plan, { samples = 4, timeoutMs = 2000 } = {}) {
  const { regions, more, more_above_ms: limit } = Array.isArray(plan) ? { regions: plan } : (plan ?? {});
  const timings = new Timings();
  const limits = { samples, timeoutMs, deadline: AbortSignal.timeout(PROBE_WITHIN_MS) };
  try {
    const first = await probeAll(regions, timings, limits);
    const nearest = Math.min(...first.flatMap(({ rtt_ms }) => rtt_ms)); // Infinity when nobody answered
    const enough = typeof limit !== "number" || nearest <= limit;
    return enough ? first : [...first, ...(await probeAll(more, timings, limits))];
  } finally {
    timings.stop();
  }
}

async function probeAll(targets, timings, limits) {
  const probes = (Array.isArray(targets) ? targets : []).map((target) => ({ ...target, rtt_ms: [] }));
  const waiting = [...probes];
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      next.rtt_ms = await sampleRtt(next.url, timings, limits);
    }
  };
  await Promise.all(Array.from({ length: PROBES_AT_ONCE }, work));
  return probes.filter(({ rtt_ms }) => rtt_ms.length > 0).map(({ region, rtt_ms }) => ({ region, rtt_ms }));
}

async function sampleRtt(url, timings, { samples, timeoutMs, deadline }) {
  const rtts = [];
  try {
    for (let i = 0; i <= samples; i += 1) {
      const target = new URL(url);
      target.searchParams.set("r", Math.random().toString(36).slice(2)); // names the entry in the browser's record
      const begun = performance.now();
      const response = await fetch(target, {
        cache: "no-store",
        credentials: "omit",
        referrerPolicy: "no-referrer",
        signal: AbortSignal.any([deadline, AbortSignal.timeout(timeoutMs)]),
      });
      const elapsed = performance.now() - begun;
      await response.arrayBuffer();
      if (!response.ok) break; // 429: others behind this address measure too; what we have will do.
      if (i === 0) continue;
      const rtt = Math.round(((await timings.of(target.href)) ?? elapsed) * 100) / 100;
      if (rtt > 0) rtts.push(rtt); // 0 is a clock that the browser made coarse, against fingerprinting
    }
  } catch {
    // An unreachable region has no round trip, which is what the caller learns.
  }
  return rtts;
}

/**
 * What the browser's network stack noted of requests (Resource Timing; cross-origin it needs Timing-Allow-Origin): a
 * page that is busy with its own start notices an answer late, the network stack does not. An observer and not
 * `getEntriesByName`, because a page's record is full after 250 entries.
 */
class Timings {
  #entries = new Map();
  #observer = new PerformanceObserver((list) => this.#note(list.getEntries()));

  constructor() {
    this.#observer.observe({ type: "resource" });
  }

  /** @returns {Promise<number|null>} From the request's first byte to the answer's, in ms; null when nobody noted it. */
  async of(url) {
    this.#note(this.#observer.takeRecords());
    // An entry may be made a moment after its answer was read.
    if (!this.#entries.has(url)) await new Promise((resolve) => setTimeout(resolve));
    this.#note(this.#observer.takeRecords());
    const { requestStart = 0, responseStart = 0 } = this.#entries.get(url) ?? {};
    this.#entries.delete(url);
    return requestStart > 0 && responseStart > requestStart ? responseStart - requestStart : null;
  }

  stop() {
    this.#observer.disconnect();
  }

  #note(entries) {
    for (const entry of entries) this.#entries.set(entry.name, entry);
  }
}

/**
 * Ask where to connect, through the app's own signalling.
 *
 * @param {{signal: Signal} & Partial<JoinRequest>} options
 * @returns {Promise<Assignment>}
 */
export async function join({ signal, room, participant, session, probes = [], exclude_nodes = [] }) {
  const assignment = await signal({ room, participant, session, probes, exclude_nodes });
  if (!assignment?.node?.whip_url || !assignment.token) {
    throw new ThalwegError("bad_answer", "The signalling server's answer is no assignment.");
  }
  return assignment;
}

/** A connection to a node: what `publish` and `subscribe` return. */
class Session {
  /** @param {Assignment} assignment @param {RTCConfiguration} rtc */
  constructor(assignment, rtc) {
    this.assignment = assignment;
    this.pc = new RTCPeerConnection({
      iceServers: assignment.ice_servers ?? [],
      bundlePolicy: "max-bundle",
      ...rtc,
    });
    this.closed = new AbortController();
    /** @type {URL|null} */
    this.location = null;
  }

  /**
   * Offer, take the answer, wait until DTLS is up. The offer goes out before any candidate is gathered: the node
   * is ICE-lite (RFC 8445) with its address in the answer, and learns ours from the first check.
   */
  async connect(url, aborted) {
    try {
      await this.pc.setLocalDescription();
      const response = await request(url, {
        method: "POST",
        headers: { ...this.authorization, "Content-Type": "application/sdp" },
        body: this.pc.localDescription.sdp,
        signal: aborted,
      });
      if (response.status !== 201) throw await failure(response);
      this.location = new URL(response.headers.get("Location") ?? "", response.url);
      this.links = parseLinks(response.headers.get("Link"), response.url);
      await this.pc.setRemoteDescription({ type: "answer", sdp: await response.text() });
      await connected(this.pc, aborted);
    } catch (error) {
      await this.close();
      throw asError(error, "bad_answer");
    }
    return this;
  }

  get authorization() {
    return { Authorization: `Bearer ${this.assignment.token}` };
  }

  /** End the session here and at the node. A node that does not answer notices by itself. */
  async close() {
    if (this.closed.signal.aborted) return;
    this.closed.abort();
    this.pc.close();
    if (!this.location) return;
    const asked = { method: "DELETE", headers: this.authorization, keepalive: true };
    await request(this.location, asked).catch(() => {});
  }
}

/**
 * Send a stream (WHIP, RFC 9725).
 *
 * @param {Assignment} assignment
 * @param {MediaStream} stream
 * @param {{rtc?: RTCConfiguration, maxVideoBitrate?: number, aborted?: AbortSignal}} [options]
 *   maxVideoBitrate in bits per second.
 * @returns {Promise<Session>} Connected. `close()` ends it.
 * @throws {ThalwegError}
 */
export async function publish(assignment, stream, { rtc = {}, maxVideoBitrate, aborted } = {}) {
  const session = new Session(assignment, rtc);
  for (const track of stream.getTracks()) {
    const limited = track.kind === "video" && maxVideoBitrate;
    session.pc.addTransceiver(track, {
      direction: "sendonly",
      streams: [stream],
      sendEncodings: limited ? [{ maxBitrate: maxVideoBitrate }] : [{}],
    });
  }
  return session.connect(assignment.node.whip_url, aborted);
}

/**
 * Receive the room (WHEP): `audio` and `video` slots, into which the node puts whoever is to be heard and seen.
 *
 * @param {Assignment} assignment
 * @param {{audio?: number, video?: number, participant?: string, rtc?: RTCConfiguration, aborted?: AbortSignal}}
 *   [options]  `participant` pins all slots to one.
 * @returns {Promise<Subscription>} Connected. Read `slots` and listen to its "slots" event.
 * @throws {ThalwegError}
 */
export async function subscribe(assignment, { audio = 4, video = 4, participant, rtc = {}, aborted } = {}) {
  const subscription = new Subscription(assignment, rtc);
  for (let i = 0; i < audio; i += 1) subscription.pc.addTransceiver("audio", { direction: "recvonly" });
  for (let i = 0; i < video; i += 1) subscription.pc.addTransceiver("video", { direction: "recvonly" });
  const url = new URL(assignment.node.whep_url);
  if (participant) url.searchParams.set("participant", participant);
  await subscription.connect(url, aborted);
  subscription.watch();
  return subscription;
}

/** The receiving side. Events: "slots" (detail: Slot[]), "lost" (detail: ThalwegError), at most one of these. */
export class Subscription extends Session {
  #events = new EventTarget();
  /** @type {Slot[]} */
  slots = [];

  addEventListener(...args) {
    this.#events.addEventListener(...args);
  }

  /** Follow the node's slot stream until the session is closed or lost. Started by `subscribe`. */
  async watch() {
    const url = this.links.get("urn:thalweg:params:slots");
    let received = -1;
    let refused = 0;
    while (url && !this.closed.signal.aborted) {
      try {
        await this.#follow(url, () => (refused = 0));
      } catch (error) {
        if (this.closed.signal.aborted) return;
        const reason = asError(error, "bad_answer");
        // A node that answers "no such session" has forgotten us; one that answers nothing may be dead, unless
        // media still comes from it.
        const before = received;
        received = await bytesReceived(this.pc);
        refused = received > before ? 1 : refused + 1;
        if (reason.code !== "node_unreachable" || refused > 2) {
          emit(this.#events, "lost", reason);
          return;
        }
      }
      await sleep(SLOTS_RETRY_MS, this.closed.signal);
    }
  }

  async #follow(url, opened) {
    // fetch instead of EventSource: the token travels in a header, not in a URL that proxies log.
    const headers = { ...this.authorization, Accept: "text/event-stream" };
    const response = await request(url, { headers, signal: this.closed.signal, timeoutMs: null });
    if (!response.ok) throw await failure(response);
    opened();
    for await (const { event, data } of serverSentEvents(response)) {
      if (event !== "slots") continue;
      const media = new Map(this.pc.getTransceivers().map((t) => [t.mid, t.receiver.track]));
      this.slots = JSON.parse(data)
        .slots.filter(({ mid }) => media.has(mid))
        .map(({ origin_node: originNode = null, hops = 0, ...slot }) => ({
          ...slot,
          hops,
          originNode,
          media: media.get(slot.mid),
        }));
      emit(this.#events, "slots", this.slots);
    }
  }
}

/**
 * A call that stays up: joins, sends, receives, and joins again when its edge moves, fails or does not answer.
 *
 * Events, all CustomEvent:
 *  - "state": {state, why, error}. new → joining → connecting → connected ⇄ reconnecting → closed | failed
 *  - "assignment": Assignment, whenever the edge or the epoch is new
 *  - "participants": Remote[], whenever somebody comes, goes or changes edge
 *  - "warning": ThalwegError of an attempt that failed; the next one follows by itself
 */
export class Call extends EventTarget {
  #options;
  #aborted = new AbortController();
  #sessions = { publication: null, subscription: null };
  /** @type {Map<string, Remote>} */
  #remotes = new Map();
  #repairing = false;
  #wantedEpoch = 0;
  /** @type {"new"|"joining"|"connecting"|"connected"|"reconnecting"|"closed"|"failed"} */
  state = "new";
  /** @type {Assignment|null} */
  assignment = null;

  /**
   * @param {object} options
   * @param {Signal} options.signal
   * @param {string} options.room
   * @param {string} options.participant
   * @param {string} [options.session]  One per call, not per person.
   * @param {MediaStream|null} [options.stream]  What to send; null for a viewer.
   * @param {{audio: number, video: number}} [options.slots]  How many others can be heard and seen at once.
   * @param {Probe[]} [options.probes]  From `probe`.
   * @param {RTCConfiguration} [options.rtc]
   * @param {number} [options.maxVideoBitrate]  Bits per second.
   */
  constructor({ session = crypto.randomUUID(), stream = null, slots = { audio: 4, video: 4 }, ...options }) {
    super();
    this.#options = { probes: [], rtc: {}, ...options, session, stream, slots };
  }

  /** @returns {Slot[]} */
  get slots() {
    return this.#sessions.subscription?.slots ?? [];
  }

  /** The peer connections, for getStats. */
  get connections() {
    const { publication, subscription } = this.#sessions;
    return { publish: publication?.pc ?? null, subscribe: subscription?.pc ?? null };
  }

  /** Join and connect. Rejects with a ThalwegError when that is refused or keeps failing. */
  async start() {
    if (this.state !== "new") throw new ThalwegError("closed", "A call starts once; make a new one.");
    await this.#establish("joining", "");
  }

  /**
   * Tell the call what signalling said: the participant has a new edge. The new connection is made before the old
   * one is closed. Calling it twice, or late, is harmless.
   *
   * @param {{epoch: number, reason?: string}} event  Data of a "participant.moved" event.
   */
  moved({ epoch, reason = "moved" }) {
    if (epoch <= Math.max(this.#wantedEpoch, this.assignment?.epoch ?? 0)) return;
    this.#wantedEpoch = epoch;
    if (this.assignment) this.#repair(reason);
  }

  /**
   * Hang up. Telling the signalling server that the participant left is the app's part. In a "pagehide" listener it
   * needs no await: the requests that end the sessions are on their way, with keepalive, before it returns.
   */
  async leave() {
    if (this.state === "closed") return;
    this.#setState("closed", "left");
    this.#aborted.abort();
    await this.#close(this.#sessions);
    this.#forgetRemotes();
  }

  async #repair(why, deadNode) {
    if (this.#repairing || this.#aborted.signal.aborted) return;
    try {
      await this.#establish("reconnecting", why, deadNode);
    } catch {
      // The state "failed" and its reason were emitted; nobody awaits this.
    }
  }

  async #establish(state, why, deadNode) {
    const wanted = this.#wantedEpoch;
    this.#repairing = true;
    this.#setState(state, why);
    try {
      const sessions = await this.#attempts(deadNode);
      const old = this.#sessions;
      this.#sessions = sessions;
      this.#watch(sessions);
      this.#setState("connected", this.assignment.node.id);
      await this.#close(old);
    } catch (error) {
      await this.#close(this.#sessions);
      if (!this.#aborted.signal.aborted) this.#setState("failed", error.message, error);
      throw error;
    } finally {
      this.#repairing = false;
    }
    // Moved again while we were busy; an answer that is older than what made us ask is not asked for again.
    if (this.#wantedEpoch > Math.max(wanted, this.assignment.epoch)) this.#repair("moved meanwhile");
  }

  /** Join and connect, again and again within bounds; never twice in a row to a node that did not answer. */
  async #attempts(deadNode) {
    const excluded = new Set(deadNode ? [deadNode] : []);
    const failures = new Map();
    let last = null;
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
      if (attempt > 0) await sleep(backoff(attempt, last), this.#aborted.signal);
      if (this.#aborted.signal.aborted) throw new ThalwegError("closed", "The call was closed.");
      let assignment = null;
      try {
        assignment = await join({ ...this.#options, exclude_nodes: [...excluded].slice(-MAX_EXCLUDED) });
      } catch (error) {
        last = asError(error, "signal_failed");
        if (isFinal(last)) throw last;
        emit(this, "warning", last);
        if (last.status === 503) excluded.clear(); // Nobody left: the nodes given up may be back.
        const sessions = await this.#fallbacks(excluded);
        if (sessions) return sessions;
        continue;
      }
      try {
        return await this.#connect(assignment);
      } catch (error) {
        last = error;
        if (this.#aborted.signal.aborted) throw last;
        emit(this, "warning", last);
        const { id } = assignment.node;
        failures.set(id, (failures.get(id) ?? 0) + 1);
        if (last.code === "node_unreachable" || failures.get(id) > 1) excluded.add(id);
      }
    }
    throw new ThalwegError("gave_up", `No connection after ${MAX_ATTEMPTS} attempts: ${last?.message}`, {
      cause: last,
    });
  }

  /** Signalling is away too: the last token is good for the fallbacks, and the nodes decide by themselves. */
  async #fallbacks(excluded) {
    for (const node of this.assignment?.fallbacks ?? []) {
      if (excluded.has(node.id)) continue;
      try {
        const { ice_servers = this.assignment.ice_servers } = node; // TURN relays within its region
        return await this.#connect({ ...this.assignment, node, ice_servers });
      } catch (error) {
        emit(this, "warning", error);
      }
    }
    return null;
  }

  async #connect(assignment) {
    if (this.state === "joining") this.#setState("connecting", assignment.node.id);
    const { stream, slots, rtc, maxVideoBitrate } = this.#options;
    const aborted = this.#aborted.signal;
    const [sent, got] = await Promise.allSettled([
      stream ? publish(assignment, stream, { rtc, maxVideoBitrate, aborted }) : null,
      subscribe(assignment, { ...slots, rtc, aborted }),
    ]);
    const sessions = { publication: sent.value ?? null, subscription: got.value ?? null };
    const error = sent.reason ?? got.reason;
    if (error) {
      await this.#close(sessions);
      throw error;
    }
    const isNew = assignment.node.id !== this.assignment?.node.id || assignment.epoch !== this.assignment.epoch;
    this.assignment = assignment;
    if (isNew) emit(this, "assignment", assignment);
    return sessions;
  }

  /** Notice when a running pair of sessions breaks. */
  #watch(sessions) {
    const current = () => this.#sessions === sessions && this.state === "connected";
    const node = this.assignment.node.id;
    for (const session of [sessions.publication, sessions.subscription]) {
      session?.pc.addEventListener("connectionstatechange", async () => {
        if (session.pc.connectionState === "disconnected") {
          await sleep(DISCONNECTED_GRACE_MS, session.closed.signal);
        }
        const state = session.pc.connectionState;
        if (current() && (state === "failed" || state === "disconnected")) {
          this.#repair(`the connection to ${node} ${state === "failed" ? "failed" : "went quiet"}`);
        }
      });
    }
    sessions.subscription.addEventListener("slots", () => this.#sessions === sessions && this.#updateRemotes());
    sessions.subscription.addEventListener("lost", ({ detail }) => {
      if (!current()) return;
      const dead = detail.code === "node_unreachable";
      this.#repair(dead ? `${node} does not answer` : detail.message, dead ? node : undefined);
    });
    this.#updateRemotes();
  }

  #updateRemotes() {
    const present = new Map();
    for (const slot of this.slots) {
      if (!slot.participant) continue;
      const known = present.get(slot.participant) ?? { tracks: [], hops: slot.hops, originNode: slot.originNode };
      known.tracks.push(slot.media);
      present.set(slot.participant, known);
    }
    for (const [participant, remote] of this.#remotes) {
      if (present.has(participant)) continue;
      remote.stream.getTracks().forEach((track) => remote.stream.removeTrack(track));
      this.#remotes.delete(participant);
    }
    for (const [participant, { tracks, hops, originNode }] of present) {
      const stream = this.#remotes.get(participant)?.stream ?? new MediaStream();
      for (const track of stream.getTracks()) if (!tracks.includes(track)) stream.removeTrack(track);
      tracks.forEach((track) => stream.addTrack(track));
      this.#remotes.set(participant, { participant, stream, hops, originNode });
    }
    emit(this, "participants", [...this.#remotes.values()]);
  }

  #forgetRemotes() {
    this.#remotes.clear();
    emit(this, "participants", []);
  }

  async #close({ publication, subscription }) {
    await Promise.all([publication?.close(), subscription?.close()]);
  }

  #setState(state, why, error = null) {
    this.state = state;
    emit(this, "state", { state, why, error });
  }
}

// --- small parts ---------------------------------------------------------------------------------

function emit(target, type, detail) {
  target.dispatchEvent(new CustomEvent(type, { detail }));
}

/** Resolves after `ms`, or at once when `aborted`; callers look at the signal themselves. */
function sleep(ms, aborted) {
  return new Promise((resolve) => {
    if (aborted.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    aborted.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

/** Exponential, with full jitter below it so that a region's clients do not come back as one; milliseconds. */
function backoff(attempt, error) {
  const most = Math.min(BACKOFF_LAST_MS, BACKOFF_FIRST_MS * 2 ** (attempt - 1));
  return Math.max(most * (0.5 + Math.random() / 2), Math.min((error?.retryAfterS ?? 0) * 1000, BACKOFF_LAST_MS));
}

/** An answer that the same question will get again: wrong input, not allowed, no region permitted. */
function isFinal({ status = 0 }) {
  return status >= 400 && status < 500 && ![408, 409, 425, 429].includes(status);
}

function asError(error, code) {
  if (error instanceof ThalwegError) return error;
  const { status, message = String(error) } = error ?? {};
  return new ThalwegError(error?.code && typeof error.code === "string" ? error.code : code, message, {
    status,
    cause: error,
  });
}

/** fetch with a deadline, whose failures say that the server did not answer. */
async function request(url, { signal, timeoutMs = HTTP_TIMEOUT_MS, ...init } = {}) {
  const signals = [signal, timeoutMs === null ? null : AbortSignal.timeout(timeoutMs)].filter(Boolean);
  try {
    return await fetch(url, { cache: "no-store", ...init, signal: AbortSignal.any(signals) });
  } catch (error) {
    if (signal?.aborted) throw new ThalwegError("closed", "The call was closed.");
    const { host } = new URL(url, globalThis.location?.href);
    throw new ThalwegError("node_unreachable", `${host} does not answer`, { cause: error });
  }
}

/** The error that an answer describes, with the code of its problem document (RFC 9457) if it has one. */
async function failure(response) {
  const problem = await response.json().catch(() => ({}));
  const retryAfterS = Number(response.headers.get("Retry-After")) || undefined;
  return new ThalwegError(problem.code ?? `http_${response.status}`, problem.detail ?? response.statusText, {
    status: response.status,
    hint: problem.hint,
    retryAfterS,
  });
}

/** Link headers (RFC 8288) as a map from relation to absolute URL; the first of a relation wins. */
function parseLinks(header, base) {
  const links = new Map();
  for (const [, target, parameters] of (header ?? "").matchAll(/<([^>]*)>((?:\s*;[^,;"]*(?:"[^"]*")?)*)/g)) {
    const relation = /;\s*rel="?([^";]+)"?/i.exec(parameters)?.[1];
    if (relation && !links.has(relation)) links.set(relation, new URL(target, base));
  }
  return links;
}

/** The events of a text/event-stream answer (WHATWG HTML, section 9.2), without ids: this stream has none. */
async function* serverSentEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch (error) {
      throw new ThalwegError("node_unreachable", "The slot stream broke off.", { cause: error });
    }
    if (chunk.done) return;
    const blocks = (buffer + chunk.value).split(/\r?\n\r?\n/);
    buffer = blocks.pop();
    if (buffer.length > MAX_EVENT_CHARS) throw new ThalwegError("bad_answer", "An event is too long.");
    for (const block of blocks) {
      const lines = block.split(/\r?\n/).map((line) => /^(\w+): ?(.*)$/.exec(line)).filter(Boolean);
      const values = (name) => lines.filter(([, field]) => field === name).map(([, , value]) => value);
      const data = values("data").join("\n");
      if (data) yield { event: values("event").at(-1) ?? "message", data };
    }
  }
}

/** Resolves when ICE and DTLS are up. */
function connected(pc, aborted) {
  return new Promise((resolve, reject) => {
    const give = (code, message) => reject(new ThalwegError(code, message));
    const timer = setTimeout(
      () => give("connection_timeout", `Not connected after ${CONNECT_TIMEOUT_MS / 1000} s: is UDP blocked?`),
      CONNECT_TIMEOUT_MS,
    );
    const look = () => {
      if (pc.connectionState === "connected") resolve();
      else if (pc.connectionState === "failed") give("connection_failed", "ICE or DTLS failed.");
      else return;
      clearTimeout(timer);
    };
    pc.addEventListener("connectionstatechange", look);
    aborted?.addEventListener("abort", () => (clearTimeout(timer), give("closed", "The call was closed.")), {
      once: true,
    });
    look();
  });
}

async function bytesReceived(pc) {
  let bytes = 0;
  for (const report of (await pc.getStats()).values()) {
    if (report.type === "transport") bytes += report.bytesReceived ?? 0;
  }
  return bytes;
}
