/** The words of the page: the sentence above the map, and the lines of what happened. */

import { count, ms } from "./dom.js";

/**
 * What to look at now, in two sentences.
 *
 * @param {object} now  {joined, me, people, links, titleOf, nextPlace, lost}
 */
export function guide({ joined, me, people, links, titleOf, nextPlace, lost }) {
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
  const sum = carried.reduce((tracks, link) => tracks + link.tracks.length, 0);
  return `Each of you talks to the edge nearby. Between edges, ${count(sum, "track")} ${sum === 1 ? "crosses" : "cross"} once each, ` +
    "however many watch at the far side.";
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

/** Lines for what the links carry now and did not a moment ago. */
export function linkLines(before, after, titleOf) {
  const key = ({ from, to }) => `${from} ${to}`;
  const old = new Map(before.map((link) => [key(link), link]));
  const lines = [];
  for (const link of after) {
    const name = `${titleOf(link.from_region)} → ${titleOf(link.to_region)}`;
    const known = old.get(key(link));
    old.delete(key(link));
    if (link.state === "down" && known?.state !== "down") lines.push({ kind: "bad", text: `${name}: the link is down` });
    if (link.tracks.length === (known?.tracks.length ?? 0)) continue;
    const carries = link.tracks.length ? `carries ${count(link.tracks.length, "track")}` : "nothing to carry";
    lines.push({ kind: "link", text: `${name} ${carries}` });
  }
  for (const link of old.values()) {
    lines.push({ kind: "link", text: `${titleOf(link.from_region)} → ${titleOf(link.to_region)} is closed` });
  }
  return lines;
}
