/** The pictures of the call: this tab's own and everybody else's. */

import { byId, html, keyed, set } from "./dom.js";

/**
 * @param {object} own  {participant, stream, where} or null before joining.
 * @param {{participant: string, stream: MediaStream, hops: number, where: string, route: string, stats: string}[]}
 *   others
 * @param {boolean} sound  Play the others' sound.
 */
export function drawTiles(own, others, sound) {
  const tiles = [...(own ? [{ ...own, own: true }] : []), ...others];
  byId("nobody").hidden = tiles.length > 0;
  keyed(byId("tiles"), tiles, ({ participant, own: mine }) => (mine ? "own" : `of ${participant}`), create, (tile, item) => {
    const video = tile.querySelector("video");
    if (video.srcObject !== item.stream) video.srcObject = item.stream;
    const muted = item.own || !sound;
    if (video.muted !== muted) video.muted = muted;
    if (video.paused) video.play().catch(() => {}); // Refused before a first click; the tile shows its first frame.
    tile.querySelector(".who").textContent = item.own ? `${item.participant} (you)` : item.participant;
    tile.querySelector(".from").textContent = item.where;
    tile.querySelector(".stats").textContent = item.stats ?? "";
    const badge = tile.querySelector(".hops");
    badge.hidden = Boolean(item.own);
    badge.textContent = item.route ?? "";
    set(badge, { class: `hops ${item.hops > 0 ? "far" : "near"}` });
  });
}

function create({ own }) {
  const video = html("video", { playsinline: "", autoplay: "" });
  video.muted = true;
  return html("figure", { class: own ? "tile own" : "tile" }, video,
    html("span", { class: "hops" }), html("span", { class: "stats" }),
    html("figcaption", {}, html("b", { class: "who" }), html("span", { class: "from" })));
}
