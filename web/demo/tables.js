/** The picture as tables, for those who would rather read, or cannot see it. */

import { byId, html, ms } from "./dom.js";

/** @param {object[]} people @param {object[]} links @param {(region: string) => string} titleOf */
export function drawTables(people, links, titleOf) {
  const row = (cells) => html("tr", {}, ...cells.map((cell) => html("td", {}, String(cell))));
  const who = (p) => p.participant + (p.me ? " (you)" : "") + (p.live ? "" : " (not connected)");
  byId("people-rows").replaceChildren(
    ...people.map((p) => row([who(p), titleOf(p.place), `${titleOf(p.region)} (${p.node})`, ms(p.rtt_ms), p.tracks.length])),
  );
  byId("link-rows").replaceChildren(
    ...links.map((l) => row([titleOf(l.from_region), titleOf(l.to_region), l.state, ms(l.rtt_ms), l.tracks.length, l.rate === null ? "–" : Math.round(l.rate), l.repaired])),
  );
}
