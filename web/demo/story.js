/** The words of the page: the sentence above the map, and the lines of what happened. */

import { clock, count, ms } from "./dom.js";

/**
 * What to look at now, in two sentences. Only who is connected counts: a seat can be empty.
 *
 * @param {object} now  {joined, connected, me, people, links, titleOf, nextPlace, lost, away, seenAt}; `away`: the
 *   control plane does not answer, and what is shown was true at `seenAt` (null: never).
 */
export function guide({ joined, connected, me, people: seats, links, titleOf, nextPlace, lost, away, seenAt }) {
  if (away) {
    const picture = seenAt ? `this picture is of ${clock(seenAt)}.` : "nothing is known of the edges and the room yet.";
    return `The control plane does not answer: ${picture}${connected ? " The call goes on." : ""}`;
  }
  if (!seenAt) return "Asking the control plane who sits where …";
  const people = seats.filter(({ live }) => live);
  if (lost.length > 0) {
    const far = people.filter(({ place, region }) => place && place !== region);
    const names = far.slice(0, 3).map(({ participant, region }) => `${participant} in ${titleOf(region)}`).join(", ");
    const gone = `The ${lost.map(titleOf).join(" and ")} ${lost.length > 1 ? "edges are" : "edge is"} gone.`;
    if (!names) return `${gone} Whoever joins from there is seated at the next best edge.`;
    return `${gone} Thalweg seated ${names}${far.length > 3 ? " and others" : ""}: farther away, but in the call.`;
  }
  if (!joined && people.length === 0) {
    return "Choose where this tab pretends to be, and join. Thalweg picks the edge that gives the whole room the least delay.";
  }
  if (!joined) return `${count(people.length, "person")} in this room already. Join from another place and see the edges link up.`.replace("persons", "people");
  const others = people.filter(({ participant }) => participant !== me?.participant);
  if (others.length === 0) {
    return `You sit on the ${titleOf(me?.region)} edge: ${ms(me?.rtt_ms)} away. Now open a second tab in ${titleOf(nextPlace)}, and look here.`;
  }
  const elsewhere = others.filter(({ region }) => region !== me?.region);
  if (elsewhere.length === 0) {
    return `You are all on the ${titleOf(me?.region)} edge, so nothing crosses an ocean. Open a tab in ${titleOf(nextPlace)} to see the edges link up.`;
  }
  const carried = links.filter(({ state, tracks }) => state === "up" && tracks.length > 0);
  if (carried.length === 0) return "You sit on different edges: they are linking themselves now.";
  const tracks = new Set(carried.flatMap((link) => link.tracks)).size;
  const nearby = people.every(({ place, region }) => place === region);
  return `Each of you talks to ${nearby ? "the edge nearby" : "one edge"}. Between edges, ${count(tracks, "track")} ` +
    `${tracks === 1 ? "travels" : "travel"} over ${count(carried.length, "link direction")}: once over each, however many watch at its far end.`;
}

/**
 * One line for an event of the control plane, or null for one that says nothing here.
 *
 * @param {{type: string, data: any}} event
 * @param {(region: string) => string} titleOf
 * @param {(node: string) => string} regionOf  Of a node.
 */
export function lineFor({ type, data }, titleOf, regionOf) {
  const edge = (node, region) => titleOf(region ?? regionOf(node));
  switch (type) {
    case "participant.assigned":
      return { kind: "join", text: `${data.participant} was seated at the ${edge(data.node, data.region)} edge` };
    case "participant.moved":
      return { kind: "move", text: `${data.participant} moves from ${edge(data.from_node)} to ${edge(data.node, data.region)}: ${data.reason}` };
    case "participant.ended":
      return { kind: "leave", text: `${data.participant} left${data.reason && data.reason !== "left" ? ` (${data.reason})` : ""}` };
    case "node.ready":
      return { kind: "good", text: `The ${edge(data.node, data.region)} edge is ready` };
    case "node.lost":
      return { kind: "bad", text: `The ${edge(data.node, data.region)} edge is lost: ${data.why}` };
    case "node.draining":
      return { kind: "move", text: `The ${edge(data.node, data.region)} edge is draining: ${data.why}` };
    case "node.drained":
      return { kind: "move", text: `The ${edge(data.node, data.region)} edge is drained` };
    case "topology.changed":
      return { kind: "move", text: "The topology was changed" };
    default:
      return null; // Links are told from what they carry, see linkLines.
  }
}

/**
 * Lines for what the links carry now and did not a moment ago, one for each pair of edges. What comes up step by
 * step is about the same pair, and ends as one line.
 */
export function linkLines(before, after, titleOf) {
  const [old, now] = [byPair(before), byPair(after)];
  const lines = [];
  for (const pair of new Set([...old.keys(), ...now.keys()])) {
    const [was, is] = [old.get(pair) ?? [], now.get(pair) ?? []];
    if (stateOf(was) === stateOf(is)) continue;
    const [one] = [...is, ...was];
    const [from, to] = [titleOf(one.from_region), titleOf(one.to_region)];
    const down = is.some(({ state }) => state === "down");
    const text = is.length === 0 ? `${from} ⇄ ${to}: the link is closed`
      : down ? `${from} ⇄ ${to}: the link is down` : `${from} ⇄ ${to}: ${carries(is, one.from)}`;
    // A failure is never overwritten by what follows it.
    lines.push({ kind: down ? "bad" : "link", text, about: down ? null : `link ${pair}` });
  }
  return lines;
}

function byPair(links) {
  const pairs = new Map();
  for (const link of [...links].sort((a, b) => (a.from < b.from ? -1 : 1))) {
    const key = [link.from, link.to].sort().join(" ");
    pairs.set(key, [...(pairs.get(key) ?? []), link]);
  }
  return pairs;
}

const stateOf = (pair) => pair.map(({ from, state, tracks }) => `${from} ${state === "down"} ${tracks.length}`).join();

function carries(pair, start) {
  const there = pair.find(({ from }) => from === start)?.tracks.length ?? 0;
  const back = pair.find(({ to }) => to === start)?.tracks.length ?? 0;
  if (there + back === 0) return "linking";
  if (there === back) return `${count(there, "track")} each way`;
  return `${count(there, "track")} there, ${back} back`;
}
