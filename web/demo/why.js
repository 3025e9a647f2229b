/** The reasons: every region with its score, term by term, and the sentences of the decision. */

import { byId, clock, count, html, ms } from "./dom.js";

const TERMS = {
  delay: "delay to the others",
  edge: "round trip to the edge",
  load: "load of the edge",
};
const SOURCES = {
  session: "this call",
  probe: "probe",
  learned: "earlier calls",
  "via-mesh": "over the mesh",
  override: "override",
  geo: "by address",
  unknown: "a guess",
};

const MAX_CANDIDATES = 8;
/** Refused edges whose reasons a tooltip spells out. */
const MAX_REFUSED = 6;

/**
 * @param {string} who
 * @param {object|null} decision  From the API.
 * @param {(region: string) => string} titleOf
 * @param {{assigned_at: number}[]} others  Who else is in the room now.
 */
export function drawDecision(who, decision, titleOf, others) {
  const host = byId("why");
  if (!decision) {
    host.replaceChildren(html("p", { class: "hint" }, "The reasons for every seat stand here as soon as somebody has joined."));
    return;
  }
  const [first, ...rest] = decision.because.map(sentence);
  const worst = Math.max(...decision.candidates.map(({ score }) => score ?? 0), 1);
  const bars = decision.candidates.slice(0, MAX_CANDIDATES).map((one) => bar(one, decision, worst, titleOf(one.region)));
  const used = Object.keys(TERMS).filter((term) => decision.candidates.some(({ terms }) => terms[term] > 0));
  host.replaceChildren(
    html("p", { class: "because" }, html("b", {}, `${who} sits in ${titleOf(decision.region)}. `), first ?? ""),
    html("p", { class: "decided" }, decidedWhen(decision, others)),
    ...(rest.length ? [html("ul", { class: "reasons" }, ...rest.map((text) => html("li", {}, text)))] : []),
    html("ol", { class: "candidates", "aria-label": "Regions, the best first; lower is better" }, ...bars),
    html("p", { class: "terms" }, "Cost in milliseconds, lower is better: ",
      ...used.map((term) => html("span", { class: `term ${term}` }, TERMS[term]))),
  );
}

/** Begin with a capital letter, unless the first word is an id. */
function sentence(text) {
  return /^[a-z]+[ ,]/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
}

/** The room has changed since: reasons that sound wrong now were right then. */
function decidedWhen({ decided_at: at, others: then }, others) {
  const when = `Decided at ${clock(at * 1000)}`;
  if (then === 0 && others.length === 0) return `${when}.`;
  const alone = then === 0 ? "when nobody else was in the room" : `with ${count(then, "other")} in the room`;
  return then === others.length ? `${when}, ${alone}.` : `${when}, ${alone}; now ${others.length || "nobody"}.`;
}

function bar({ region, rtt_ms, rtt_source, score, terms, refusal, refused = {} }, decision, worst, name) {
  const parts = Object.entries(terms).filter(([, value]) => value > 0);
  const segments = parts.map(([term, value]) => {
    const segment = html("i", { class: `part ${term}`, title: `${TERMS[term] ?? term}: ${ms(value)}` });
    segment.style.width = `${(100 * value) / worst}%`;
    return segment;
  });
  const chosen = region === decision.region;
  const edges = Object.entries(refused).map(([node, why]) => `${node}: ${why}`);
  const partly = edges.length && !refusal ? [html("small", {}, `${count(edges.length, "edge")} refused`)] : [];
  const tooltip = [...edges.slice(0, MAX_REFUSED), ...(edges.length > MAX_REFUSED ? ["…"] : [])].join("\n");
  return html("li", { class: chosen ? "chosen" : refusal ? "refused" : "", ...(tooltip ? { title: tooltip } : {}) },
    html("span", { class: "candidate" }, html("span", {}, name), html("small", {}, `${ms(rtt_ms)} · ${SOURCES[rtt_source] ?? rtt_source}`), ...partly),
    refusal ? html("span", { class: "refusal" }, refusal)
      : html("span", { class: "bar", role: "img", "aria-label": parts.map(([term, value]) => `${TERMS[term] ?? term} ${ms(value)}`).join(", ") }, ...segments),
    html("span", { class: "score" }, score === null ? "no" : `${Math.round(score * 10) / 10}`));
}
