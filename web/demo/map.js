/** The live picture: edges where they stand, people around their place, links as arcs that flow while packets do. */

import { count, hueOf, keyed, ms, set, svg } from "./dom.js";
import { fitWorld } from "./world.js";

const COMPACT_BELOW_PX = 560;
/** Names around one place; more are a number. */
const MAX_AROUND = 7;

/**
 * @typedef {object} Picture
 * @property {{id: string, title: string, lat: number, lon: number}[]} regions
 * @property {{id: string, region: string, state: string}[]} nodes
 * @property {{participant: string, me: boolean, live: boolean, place: string, node: string, region: string,
 *   rtt_ms: number}[]} people
 * @property {{from: string, to: string, from_region: string, to_region: string, state: string, tracks: string[],
 *   rate: number, repaired: number, rtt_ms: number|null}[]} links  rate in packets/s.
 * @property {{between: [string, string], rtt_ms: number|null}[]} paths  What the topology declares.
 * @property {boolean} stale  Nobody vouches for it now: dim, and without flow.
 */

export class WorldMap {
  #size = { width: 0, height: 0 };
  /** @type {Picture|null} */
  #picture = null;

  constructor(host) {
    this.land = svg("path", { class: "land" });
    this.paths = svg("g", { class: "paths" });
    this.links = svg("g", { class: "links" });
    this.access = svg("g", { class: "access" });
    this.edges = svg("g", { class: "edges" });
    this.people = svg("g", { class: "people" });
    this.labels = svg("g", { class: "labels" });
    const layers = [this.land, this.paths, this.links, this.access, this.edges, this.people, this.labels];
    this.root = svg("svg", { role: "img", "aria-label": "Map of edges, participants and links" }, ...layers);
    host.append(this.root);
    new ResizeObserver(() => this.#resize(host.clientWidth)).observe(host);
  }

  /** @param {Picture} picture */
  draw(picture) {
    this.#picture = picture;
    set(this.root, { class: picture.stale ? "stale" : "" });
    const connected = picture.people.filter(({ live }) => live).length;
    const summary = `${count(connected, "participant")} on ${count(picture.nodes.length, "edge")}, ` +
      `${count(picture.links.length, "link direction")} between edges. The table below says the same.`;
    set(this.root, { "aria-label": summary });
    if (this.#size.width) this.#draw();
  }

  #resize(width) {
    if (!width || width === this.#size.width) return;
    const height = Math.round(Math.min(480, Math.max(230, width * 0.45)));
    this.#size = { width, height };
    this.projection = null;
    set(this.root, { viewBox: `0 0 ${width} ${height}`, width, height });
    if (this.#picture) this.#draw();
  }

  #draw() {
    const { regions, nodes, people, links, paths, stale } = this.#picture;
    const { width, height } = this.#size;
    if (!this.projection) {
      this.projection = fitWorld(regions, width, height, width < COMPACT_BELOW_PX ? 52 : 120);
      set(this.land, { d: this.projection.dots() });
    }
    this.compact = width < COMPACT_BELOW_PX;
    this.places = new Map(regions.map((region) => [region.id, { ...region, ...this.projection.at(region) }]));
    const all = [...this.places.values()];
    this.centre = {
      x: all.reduce((sum, { x }) => sum + x, 0) / all.length,
      y: all.reduce((sum, { y }) => sum + y, 0) / all.length,
    };
    this.nodeAt = new Map();
    for (const place of all) {
      const here = nodes.filter(({ region }) => region === place.id);
      here.forEach(({ id }, i) => this.nodeAt.set(id, { x: place.x + (i - (here.length - 1) / 2) * 34, y: place.y }));
    }
    this.#drawEdges(nodes, stale);
    this.#drawPaths(paths, links);
    this.#drawPeople(people);
    this.#drawLinks(links);
  }

  #drawEdges(nodes, stale) {
    const named = new Set(nodes.map(({ region }) => region));
    const missing = [...this.places.keys()].filter((id) => !named.has(id));
    keyed(
      this.edges,
      [...nodes, ...missing.map((region) => ({ region, id: `no edge in ${region}`, state: stale ? "unknown" : "lost" }))],
      ({ id }) => id,
      () =>
        svg("g", {}, svg("circle", { class: "halo", r: 24 }), svg("path", { class: "hexagon", d: hexagon(15) }),
          svg("path", { class: "glyph", d: "M-6-4H6M6-4l-3-3M6-4l-3 3M6 4H-6M-6 4l3-3M-6 4l3 3" }),
          svg("text", { class: "edge-name", y: 34 }), svg("text", { class: "edge-state", y: 49 })),
      (group, node) => {
        const place = this.places.get(node.region);
        const at = this.nodeAt.get(node.id) ?? place;
        if (!at) return;
        set(group, { transform: `translate(${at.x} ${at.y})`, class: `edge ${node.state}` });
        group.querySelector(".edge-name").textContent = place?.title ?? node.region;
        group.querySelector(".edge-state").textContent = node.state === "serving" ? "" : node.state;
      },
    );
  }

  /** Faint lines where an edge could link to another and nobody needs it. */
  #drawPaths(paths, links) {
    const used = new Set(links.map((link) => pairKey(link.from_region, link.to_region)));
    const idle = paths.filter(({ between: [a, b] }) => !used.has(pairKey(a, b)) && this.places.has(a) && this.places.has(b));
    keyed(
      this.paths,
      idle,
      ({ between: [a, b] }) => pairKey(a, b),
      () => svg("g", {}, svg("path", { class: "path" }), svg("text", { class: "path-rtt" })),
      (group, { between: [a, b], rtt_ms }) => {
        const arc = this.#arc(this.places.get(a), this.places.get(b), 0);
        set(group.firstChild, { d: arc.d });
        set(group.lastChild, { x: arc.top.x, y: arc.top.y - 6 });
        group.lastChild.textContent = ms(rtt_ms);
      },
    );
  }

  #drawLinks(links) {
    const drawable = links.filter(({ from, to }) => this.nodeAt.has(from) && this.nodeAt.has(to));
    keyed(
      this.links,
      drawable,
      ({ from, to }) => `${from} ${to}`,
      () => svg("g", {}, svg("path", { class: "bed" }), svg("path", { class: "flow" })),
      (group, link) => {
        const { d } = this.#arc(this.nodeAt.get(link.from), this.nodeAt.get(link.to), 4);
        for (const path of group.children) set(path, { d });
        const pace = link.rate > 150 ? "fast" : link.rate > 0 ? "flowing" : "still";
        set(group, { class: `link ${link.state} ${pace}` });
      },
    );
    const pairs = new Map();
    for (const link of drawable) {
      const key = pairKey(link.from, link.to);
      pairs.set(key, [...(pairs.get(key) ?? []), link]);
    }
    keyed(
      this.labels,
      [...pairs.values()],
      ([{ from, to }]) => pairKey(from, to),
      () => svg("g", {}, svg("rect", { rx: 8 }), svg("text", {})),
      (group, pair) => this.#label(group, pair),
    );
  }

  #label(group, pair) {
    const [a, b] = [this.nodeAt.get(pair[0].from), this.nodeAt.get(pair[0].to)];
    const { top, outward } = this.#arc(a, b, 0);
    const [first] = pair;
    const arrow = (link) => (this.nodeAt.get(link.from).x <= this.nodeAt.get(link.to).x ? "→" : "←");
    const ordered = [...pair].sort((one, other) => arrow(other).localeCompare(arrow(one)));
    const repaired = ordered.reduce((sum, link) => sum + link.repaired, 0);
    const head = ms(first.rtt_ms) + (repaired > 0 && !this.compact ? ` · ${count(repaired, "packet")} repaired` : "");
    const lines = this.compact
      ? [head, ordered.map((link) => `${arrow(link)} ${link.tracks.length}`).join("  ")]
      : [head, ...ordered.map((link) => `${arrow(link)} ${count(link.tracks.length, "track")}${link.rate === null ? "" : ` · ${Math.round(link.rate)} packets/s`}`)];
    const text = group.lastChild;
    const rows = lines.map((line, i) => svg("tspan", { x: 0, dy: i ? 15 : 0, class: i ? "" : "rtt" }, line));
    text.replaceChildren(...rows);
    const wide = Math.max(...rows.map((row) => row.getComputedTextLength())) + 18;
    const high = lines.length * 15 + 9;
    set(group.firstChild, { x: -wide / 2, y: -16, width: wide, height: high });
    // Outside of the arc, so that the flow stays in sight; inside of the map.
    const clear = (Math.abs(outward.x) * wide + Math.abs(outward.y) * high) / 2 + 9;
    const within = (value, size, whole) => Math.min(whole - size / 2 - 4, Math.max(size / 2 + 4, value));
    const y = within(top.y + outward.y * clear, high, this.#size.height);
    let x = within(top.x + outward.x * clear, wide, this.#size.width);
    // Beside the people that it would cover, on the side where it already is.
    for (const box of this.boxes) {
      const apart = (wide + box.wide) / 2 + 4;
      if (Math.abs(y - box.y) >= (high + box.high) / 2 || Math.abs(x - box.x) >= apart) continue;
      x = within(x < box.x ? box.x - apart : box.x + apart, wide, this.#size.width);
    }
    set(group, { transform: `translate(${x} ${y - high / 2 + 16})`, class: "label" });
  }

  #drawPeople(people) {
    const spots = [];
    for (const place of this.places.values()) {
      const here = people.filter((person) => person.place === place.id);
      const shown = here.length > MAX_AROUND ? here.slice(0, MAX_AROUND - 1) : here;
      shown.forEach((person, i) => spots.push({ ...person, seat: i, ...this.#spot(place, i, here.length) }));
      if (shown.length < here.length) {
        const more = `+${here.length - shown.length}`;
        spots.push({ participant: more, node: null, ...this.#spot(place, MAX_AROUND - 1, MAX_AROUND) });
      }
    }
    /** What people and their names cover, as middles and sizes. */
    this.boxes = [];
    const told = new Set();
    keyed(
      this.access,
      spots.filter(({ node }) => this.nodeAt.has(node)),
      ({ participant }) => participant,
      () => svg("g", {}, svg("path", { class: "leg" }), svg("text", { class: "leg-rtt" })),
      (group, person) => {
        const edge = this.nodeAt.get(person.node);
        const far = person.place !== person.region;
        // To a far edge below the links, each on a curve of its own.
        const arc = far ? this.#arc(person, edge, 0, -0.04 - 0.05 * person.seat) : { d: `M${person.x} ${person.y}L${edge.x} ${edge.y}` };
        set(group.firstChild, { d: arc.d, class: `leg ${far ? "far" : ""}`, stroke: colour(person) });
        set(group.lastChild, far ? { x: arc.top.x, y: arc.top.y + 15 } : {});
        // Once for all who sit alike: the numbers would stand on one another.
        const path = `${person.place} ${person.node}`;
        group.lastChild.textContent = far && !told.has(path) ? ms(person.rtt_ms) : "";
        told.add(path);
      },
    );
    keyed(
      this.people,
      spots,
      ({ participant }) => participant,
      () => svg("g", {}, svg("circle", { r: 11 }), svg("text", { class: "initial", y: 4 }), svg("text", { class: "name", y: 4 })),
      (group, person) => {
        const absent = person.live === false;
        set(group, { transform: `translate(${person.x} ${person.y})`, class: `person ${person.me ? "me" : ""} ${absent ? "absent" : ""}` });
        set(group.children[0], { fill: absent ? null : colour(person) });
        group.children[1].textContent = person.participant.startsWith("+") ? person.participant : person.participant[0].toUpperCase();
        const name = this.compact && !person.me ? "" : person.participant + (person.me ? " (you)" : "");
        const label = group.children[2];
        label.textContent = person.participant.startsWith("+") ? "" : name + (name && absent ? " · not connected" : "");
        const wide = label.getComputedTextLength();
        const beside = this.#beside(person, wide);
        set(label, beside);
        const shift = { start: wide / 2, middle: 0, end: -wide / 2 }[beside["text-anchor"]];
        this.boxes.push({ x: person.x, y: person.y, wide: 26, high: 26 });
        this.boxes.push({ x: person.x + beside.x + shift, y: person.y + beside.y - 4, wide, high: 16 });
      },
    );
  }

  /** Where the name of a person stands: on the outer side, else above, and never beyond the map. */
  #beside({ x, side: outer }, wide) {
    const side = Math.abs(outer) > 0.3 ? Math.sign(outer) : 0;
    const end = x + side * (16 + wide);
    if (side && end > 4 && end < this.#size.width - 4) {
      return { x: side * 16, y: 4, "text-anchor": side < 0 ? "end" : "start" };
    }
    const middle = Math.max(wide / 2 + 4, Math.min(this.#size.width - wide / 2 - 4, x));
    return { x: middle - x, y: -16, "text-anchor": "middle" };
  }

  /** A seat on the ring around a place, on the side that looks away from the other places. */
  #spot(place, i, n) {
    // Upwards at least a little: the name of the edge stands below it.
    const across = place.x - this.centre.x;
    const away = Math.atan2(Math.min(place.y - this.centre.y, -0.5 * Math.abs(across)), across * 0.8);
    const ring = this.compact ? 34 : 44;
    const spread = Math.min(Math.PI * 1.1, (n - 1) * 0.62);
    const angle = away + (n > 1 ? spread * (i / (Math.min(n, MAX_AROUND) - 1) - 0.5) : 0);
    const side = Math.cos(angle);
    return { x: place.x + ring * side, y: place.y + ring * Math.sin(angle), side };
  }

  /** An arc that bends away from the middle of the map, its top, shifted sideways so that two directions differ. */
  #arc(a, b, sideways, bend = 0.15) {
    const [dx, dy] = [b.x - a.x, b.y - a.y];
    const length = Math.hypot(dx, dy) || 1;
    const normal = { x: -dy / length, y: dx / length };
    const middle = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
    const outward = (middle.x - this.centre.x) * normal.x + (middle.y - this.centre.y) * normal.y;
    const flip = Math.abs(outward) > 1 ? Math.sign(outward) : -Math.sign(normal.y) || 1;
    const shift = { x: normal.x * sideways, y: normal.y * sideways };
    const control = { x: middle.x + normal.x * flip * length * bend * 2, y: middle.y + normal.y * flip * length * bend * 2 };
    const at = ({ x, y }) => `${(x + shift.x).toFixed(1)} ${(y + shift.y).toFixed(1)}`;
    return {
      d: `M${at(a)}Q${at(control)} ${at(b)}`,
      top: { x: (middle.x + control.x) / 2, y: (middle.y + control.y) / 2 },
      outward: { x: normal.x * flip, y: normal.y * flip },
    };
  }
}

const colour = ({ participant }) => `hsl(${hueOf(participant)} 62% 46%)`;
const pairKey = (a, b) => [a, b].sort().join(" ");

function hexagon(r) {
  const corners = [0, 1, 2, 3, 4, 5].map((i) => {
    const angle = (Math.PI / 3) * i + Math.PI / 6;
    return `${(r * Math.cos(angle)).toFixed(1)} ${(r * Math.sin(angle)).toFixed(1)}`;
  });
  return `M${corners.join("L")}Z`;
}
