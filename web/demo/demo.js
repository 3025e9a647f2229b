/**
 * The demo page. It joins a room through thalweg.js, and shows beside the call what the control plane says about it.
 *
 * URL parameters, for links and tests: room, place, name, media=test|camera, autojoin=1.
 */

import { Call, probe } from "/thalweg.js";
import { byId, count, html, hueOf, ms, set } from "./dom.js";
import { Log } from "./log.js";
import { WorldMap } from "./map.js";
import { openMedia } from "./media.js";
import { getDecision, getProbePlan, getRoom, getWorld, joinFrom, leave, RoomFeed } from "./signalling.js";
import { FrameCounter } from "./stats.js";
import { guide, lineFor, linkLines } from "./story.js";
import { drawTables } from "./tables.js";
import { drawTiles } from "./tiles.js";
import { drawDecision } from "./why.js";

const NAMES = ["Ana", "Bo", "Cleo", "Dev", "Eli", "Fay", "Gus", "Hana"];
const VIDEO_BITRATE = 500_000;
/** Others that can be seen and heard at once. */
const SLOTS = { audio: 6, video: 6 };

const parameters = new URLSearchParams(location.search);
const state = {
  world: { regions: [], links: [], access_rtt_ms: 0 },
  view: { participants: [], cascade: { links: [] } },
  nodes: [],
  links: [],
  feed: null,
  call: null,
  media: null,
  me: null,
  remotes: [],
  frames: new Map(),
  sound: false,
  whose: null,
  decisionKey: null,
  /** When the control plane last answered; what is shown is as old. */
  seenAt: null,
  away: false,
  /** Edges that this tab lost since then: while the control plane is away, nobody else would say so. */
  unreachable: new Set(),
};
/** For tests: what a user could read off the page. */
window.thalwegDemo = { joined: false, state: "new", participant: null, room: null, node: null, region: null, tiles: [], error: null };

const titleOf = (region) => state.world.regions.find(({ id }) => id === region)?.title ?? region ?? "?";
const regionOf = (node) => state.nodes.find(({ id }) => id === node)?.region ?? node;
const chosen = (name) => document.querySelector(`input[name=${name}]:checked`)?.value;
const map = new WorldMap(byId("map"));
const log = new Log(byId("log"));

await begin();

async function begin() {
  try {
    state.world = await getWorld();
  } catch (error) {
    showProblem(`The demo's server does not answer: ${error.message}`);
    return;
  }
  byId("access").textContent = state.world.access_rtt_ms;
  drawPlaces(parameters.get("place") ?? state.world.regions[0].id);
  byId("room").value = parameters.get("room") ?? "demo";
  redraw();
  drawDecision("", null, titleOf, []);
  follow(byId("room").value); // Before anything else is asked: a control plane that hangs is to be told soon.
  const media = document.querySelector(`input[name=media][value="${parameters.get("media") === "camera" ? "camera" : "test"}"]`);
  media.checked = true;
  byId("join-form").addEventListener("submit", onSubmit);
  byId("room").addEventListener("change", () => follow(byId("room").value));
  byId("places").addEventListener("change", redraw);
  byId("leave").addEventListener("click", hangUp);
  byId("sound").addEventListener("click", toggleSound);
  addEventListener("pagehide", onPageHide);
  addEventListener("pageshow", ({ persisted }) => persisted && location.reload()); // Its call has ended.
  setInterval(countFrames, 1000);
  measure();
  byId("name").value = parameters.get("name") ?? "";
  byId("name").value ||= await freeName();
  if (parameters.get("autojoin") === "1") byId("join-form").requestSubmit();
}

function drawPlaces(selected) {
  const { regions, links, access_rtt_ms: access } = state.world;
  byId("places").replaceChildren(
    ...regions.map(({ id, title }) => {
      const far = links.filter(({ between, rtt_ms }) => between.includes(id) && rtt_ms !== null).map(({ rtt_ms }) => rtt_ms + access);
      const input = html("input", { type: "radio", name: "place", value: id });
      input.checked = id === selected;
      const reach = `${access} ms to its edge` + (far.length ? `, ${Math.min(...far)} to the next` : "");
      return html("label", { class: "choice" }, input, html("span", {}, html("b", {}, title), html("small", {}, reach)));
    }),
  );
  if (!chosen("place")) document.querySelector("input[name=place]").checked = true;
}

async function freeName() {
  const { participants } = await getRoom(byId("room").value).catch(() => ({ participants: [] }));
  const taken = new Set(participants.map(({ participant }) => participant.toLowerCase()));
  return NAMES.find((name) => !taken.has(name.toLowerCase())) ?? `Guest-${Math.floor(Math.random() * 900) + 100}`;
}

/** A name as an id: the API takes RFC 3986's unreserved characters. */
async function participantId(name, room) {
  const plain = name.normalize("NFKD").replace(/[\u0300-\u036f]/g, "").trim();
  const base = plain.replace(/[^A-Za-z0-9._~-]+/g, "-").replace(/^[-.]+|-+$/g, "").slice(0, 40) || "guest";
  const { participants } = await getRoom(room);
  const taken = new Set(participants.map(({ participant }) => participant));
  for (let n = 1; n < 100; n += 1) {
    const id = n === 1 ? base : `${base}-${n}`;
    if (!taken.has(id)) return id;
  }
  return `${base}-${crypto.randomUUID().slice(0, 8)}`;
}

/** The real round trips: they show why the demo has to pretend. */
async function measure() {
  try {
    const probes = await probe(await getProbePlan(byId("room").value));
    const best = probes.map(({ rtt_ms }) => Math.min(...rtt_ms)).sort((a, b) => a - b);
    if (best.length) byId("measured").textContent = ` (this browser measures ${best.map(ms).join(", ")} to them)`;
  } catch {
    // Only a remark on the page depends on it.
  }
}

// --- joining and leaving -------------------------------------------------------------------------

async function onSubmit(event) {
  event.preventDefault();
  if (state.call) return;
  const button = document.querySelector("#join-form button");
  button.disabled = true;
  showProblem("");
  try {
    await joinRoom({ room: byId("room").value, place: chosen("place"), name: byId("name").value });
  } catch (error) {
    await hangUp();
    showProblem(error.message + (error.hint ? ` (${error.hint})` : ""), error.code ?? error.name);
  } finally {
    button.disabled = false;
  }
}

async function joinRoom({ room, place, name }) {
  const participant = await participantId(name, room);
  const index = state.world.regions.findIndex(({ id }) => id === place);
  state.media = await openMedia(chosen("media"), { title: titleOf(place), name: participant, hue: hueOf(participant), index });
  follow(room);
  const call = new Call({
    signal: joinFrom(place),
    room,
    participant,
    stream: state.media.stream,
    slots: SLOTS,
    maxVideoBitrate: VIDEO_BITRATE,
  });
  state.call = call;
  state.me = { room, participant, place };
  state.whose = participant;
  call.addEventListener("state", ({ detail }) => onCallState(detail));
  call.addEventListener("warning", ({ detail }) => log.add({ kind: "bad", text: `This tab: ${detail.message}; trying again` }));
  call.addEventListener("participants", ({ detail }) => {
    state.remotes = detail;
    redraw();
  });
  await call.start();
}

async function hangUp() {
  const { call, media, me } = state;
  if (!me && !media) return;
  Object.assign(state, { call: null, media: null, me: null, remotes: [], whose: null });
  await call?.leave();
  if (me) await leave(me.room, me.participant);
  media?.stop();
  Object.assign(window.thalwegDemo, { joined: false, state: "new", participant: null, node: null, region: null });
  redraw();
}

/**
 * The tab goes: end the sessions at the edge too, not only the seat at the control plane, so that the others' tiles
 * vanish at once even when the control plane is away. Everything is sent with keepalive; nobody waits for an answer.
 */
function onPageHide() {
  const { call, me } = state;
  if (!call) return;
  call.leave();
  leave(me.room, me.participant);
}

function onCallState({ state: now, why, error }) {
  const wasJoined = window.thalwegDemo.joined;
  const joined = now === "connected" || now === "reconnecting";
  const { assignment } = state.call ?? {};
  Object.assign(window.thalwegDemo, {
    joined,
    state: now,
    participant: state.me?.participant ?? null,
    room: state.me?.room ?? null,
    node: assignment?.node.id ?? null,
    region: assignment?.node.region ?? null,
  });
  if (now === "reconnecting") {
    log.add({ kind: "bad", text: `This tab reconnects: ${why}` });
    if (assignment) state.unreachable.add(assignment.node.id);
  }
  if (now === "connected") state.unreachable.delete(assignment.node.id);
  // A join that fails is told by whoever asked for it; a call that ends later is told here.
  if (now === "failed" && wasJoined) hangUp().then(() => showProblem(`The call ended: ${why}`, error.code));
  redraw();
}

function toggleSound() {
  state.sound = !state.sound;
  byId("sound").textContent = state.sound ? "Turn sound off" : "Turn sound on";
  redraw();
}

function showProblem(text, code = null) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
  window.thalwegDemo.error = text ? { message: text, code } : null;
}

// --- following the room --------------------------------------------------------------------------

function follow(room) {
  if (!room || state.feed?.room === room) return;
  state.feed?.close();
  Object.assign(state, { view: { participants: [], cascade: { links: [] } }, links: [], decisionKey: null, seenAt: null, away: false });
  state.feed = new RoomFeed(room);
  state.feed.addEventListener("view", ({ detail }) => onView(detail));
  state.feed.addEventListener("happened", ({ detail }) => {
    const line = lineFor(detail, titleOf, regionOf);
    if (line) log.add(line);
    if (detail.type === "participant.moved" && detail.data.participant === state.me?.participant) state.call?.moved(detail.data);
  });
  state.feed.addEventListener("away", () => {
    state.away = true;
    log.add({ kind: "bad", text: `The control plane does not answer.${inCall() ? " The call goes on." : ""}` });
    redraw();
  });
  state.feed.addEventListener("back", () => {
    state.away = false;
    log.add({ kind: "good", text: "The control plane answers again" });
  });
}

function inCall() {
  return state.call?.state === "connected";
}

function onView({ room, nodes }) {
  const before = state.links;
  const now = performance.now();
  const old = new Map(before.map((link) => [`${link.from} ${link.to}`, link]));
  state.links = room.cascade.links.map((link) => {
    const known = old.get(`${link.from} ${link.to}`);
    return { ...link, ...rateOf(link, known, now) };
  });
  Object.assign(state, { view: room, nodes, seenAt: Date.now(), unreachable: new Set() });
  linkLines(before, state.links, titleOf).forEach((line) => log.add(line));
  const mine = room.participants.find(({ participant }) => participant === state.me?.participant);
  if (mine && state.call) state.call.moved({ epoch: mine.epoch });
  redraw();
  explain().catch(() => (state.decisionKey = null)); // Gone or away: the next view asks again.
}

/**
 * Packets per second. Nodes report about as often as we look, so a count that stands still between two looks is
 * not yet a link that stands still.
 */
function rateOf(link, known, now) {
  if (!known || link.packets < known.counted) return { rate: null, counted: link.packets, countedAt: now };
  const seconds = (now - known.countedAt) / 1000;
  const { rate, counted, countedAt } = known;
  if (link.packets === counted || seconds < 0.5) return { rate: seconds > 3.5 ? 0 : rate, counted, countedAt };
  const fresh = (link.packets - counted) / seconds;
  return { rate: rate > 0 ? (rate + fresh) / 2 : fresh, counted: link.packets, countedAt: now };
}

/** Fetch the reasons when the person, the edge, the epoch or the room's people are others than those shown. */
async function explain() {
  const { participants, id } = state.view;
  const person = participants.find(({ participant }) => participant === state.whose) ?? participants[0];
  const others = participants.filter((one) => one !== person && one.live);
  const key = person ? JSON.stringify([person, ...others].map((one) => [one.participant, one.node, one.epoch])) : "";
  if (key === state.decisionKey) return;
  state.decisionKey = key;
  drawDecision(person?.participant, person ? await getDecision(id, person.participant) : null, titleOf, others);
}

// --- drawing -------------------------------------------------------------------------------------

function redraw() {
  const { world, view, links, me, call, away, seenAt } = state;
  const nodes = state.nodes.map((node) => ({ ...node, state: stateNow(node) }));
  const people = view.participants.map(personNow);
  const serving = new Set(nodes.filter((node) => ["unknown", "serving", "draining", "suspect"].includes(node.state)).map(({ region }) => region));
  const lost = world.regions.map(({ id }) => id).filter((id) => nodes.length > 0 && !serving.has(id));
  const next = nextPlace(people);
  map.draw({ regions: world.regions, nodes, people, links, paths: world.links, stale: away || !seenAt });
  byId("guide").textContent = guide({
    ...{ joined: Boolean(call), connected: inCall(), me: people.find((p) => p.me), people, links, titleOf },
    ...{ nextPlace: next, lost, away, seenAt },
  });
  byId("second-tab").textContent = `Open ${call ? "another" : "a second"} tab in ${titleOf(next)} ↗`;
  const room = encodeURIComponent(byId("room").value);
  set(byId("second-tab"), { href: `/?room=${room}&place=${encodeURIComponent(next)}` });
  byId("join-form").hidden = Boolean(call);
  byId("joined").hidden = !call;
  if (call) drawWhere(call, me);
  drawTiles(me && { participant: me.participant, stream: state.media?.stream, where: titleOf(me.place) }, others(people), state.sound);
  drawPeopleChips(people);
  drawTables(people, links, titleOf);
}

/** While the control plane is away, nobody says that an edge still serves. */
function stateNow(node) {
  if (!state.away) return node.state;
  return state.unreachable.has(node.id) ? "lost" : "unknown";
}

/** A seat as the map shows it; where this tab is connected, this tab knows best. */
function personNow(person) {
  const me = person.participant === state.me?.participant;
  const place = person.place ?? person.region;
  const { id: node, region } = (me && state.away && state.call?.assignment?.node) || { id: person.node, region: person.region };
  return { ...person, me, place, node, region };
}

/** A place where nobody of the room is yet, else the one after this tab's. */
function nextPlace(people) {
  const ids = state.world.regions.map(({ id }) => id);
  const mine = state.me?.place ?? chosen("place");
  const order = [...ids, ...ids].slice(ids.indexOf(mine) + 1);
  return order.find((id) => id !== mine && !people.some(({ place, live }) => live && place === id)) ?? order[0];
}

function drawWhere(call, me) {
  const words = { joining: "asking for an edge …", connecting: "connecting …", reconnecting: "reconnecting …", failed: "the call failed" };
  const edge = call.assignment ? `the ${titleOf(call.assignment.node.region)} edge` : "";
  byId("where").replaceChildren(
    html("b", {}, me.participant), ` pretends to be in ${titleOf(me.place)} and is `,
    ...(call.state === "connected" ? ["connected to ", html("b", {}, edge), "."] : [words[call.state] ?? call.state]),
  );
}

function others(people) {
  const mine = state.call?.assignment?.node.region;
  const small = state.remotes.length > 1; // Two columns of tiles: no room for the way.
  const ordered = [...state.remotes].sort((a, b) => (a.participant < b.participant ? -1 : 1)); // Never by slot.
  return ordered.map(({ participant, stream, hops, originNode }) => {
    const person = people.find((one) => one.participant === participant);
    const origin = person?.region ?? regionOf(originNode);
    const frames = state.frames.get(participant);
    return {
      participant,
      stream,
      hops,
      where: titleOf(person?.place ?? origin),
      route: hops > 0 ? count(hops, "hop") + (small ? "" : `: ${titleOf(origin)} → ${titleOf(mine)}`) : "same edge",
      stats: frames?.width ? `${small ? "" : `${frames.width}×${frames.height} · `}${frames.fps} fps` : "",
    };
  });
}

function drawPeopleChips(people) {
  const host = byId("why-people");
  const names = people.map(({ participant }) => participant);
  const shown = names.includes(state.whose) ? state.whose : names[0];
  if (host.dataset.names !== JSON.stringify([names, shown])) {
    host.dataset.names = JSON.stringify([names, shown]);
    host.replaceChildren(
      ...names.slice(0, 12).map((name) => {
        const chip = html("button", { type: "button", "aria-pressed": name === shown }, name);
        chip.addEventListener("click", () => {
          state.whose = name;
          redraw();
          explain().catch(() => (state.decisionKey = null));
        });
        return chip;
      }),
    );
  }
}

const counter = new FrameCounter();
async function countFrames() {
  if (state.call?.state === "connected") state.frames = new Map(await counter.look(state.call));
  window.thalwegDemo.tiles = state.remotes.map(({ participant, hops }) => {
    const { videoFrames = 0, audioFrames = 0 } = state.frames.get(participant) ?? {};
    return { participant, hops, videoFrames, audioFrames };
  });
}
