/** The reasons: every candidate with its score, term by term, and the sentences of the decision. */

import { byId, clock, count, html, ms } from "./dom.js";

const TERMS = {
  delay: "delay to the others",
  edge: "round trip to the edge",
  load: "load of the edge",
};
const SOURCES = {
  probe: "probe",
  learned: "earlier calls",
  "via-mesh": "over the mesh",
  override: "override",
  geo: "by address",
  unknown: "a guess",
};

const MAX_CANDIDATES = 8;

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
  const [first, ...rest] = decision.because;
  const worst = Math.max(...decision.candidates.map(({ score }) => score ?? 0), 1);
  const inRegion = (region) => decision.candidates.filter((one) => one.region === region).length;
  const nameOf = ({ node, region }) => (inRegion(region) > 1 ? node : titleOf(region));
  const bars = decision.candidates.slice(0, MAX_CANDIDATES).map((one) => bar(one, decision, worst, nameOf(one)));
  const used = Object.keys(TERMS).filter((term) => decision.candidates.some(({ terms }) => terms[term] > 0));
  host.replaceChildren(
    html("p", { class: "because" }, html("b", {}, `${who} sits in ${titleOf(decision.region)}. `), first ?? ""),
    html("p", { class: "decided" }, decidedWhen(decision, others)),
    ...(rest.length ? [html("ul", { class: "reasons" }, ...rest.map((sentence) => html("li", {}, sentence)))] : []),
    html("ol", { class: "candidates", "aria-label": "Candidates, the best first; lower is better" }, ...bars),
    html("p", { class: "terms" }, "Cost in milliseconds, lower is better: ",
      ...used.map((term) => html("span", { class: `term ${term}` }, TERMS[term]))),
  );
}

/** The room has changed since: reasons that sound wrong now were right then. */
function decidedWhen({ decided_at: at }, others) {
  const when = `Decided at ${clock(at * 1000)}`;
  if (others.length === 0) return `${when}.`;
  const then = others.filter(({ assigned_at }) => assigned_at < at).length;
  const here = `${count(others.length, "other")} here now`;
  return then === 0 ? `${when}, before any of the ${here} had a seat.`
    : `${when}, when ${then} of the ${here} ${then === 1 ? "was" : "were"} seated.`;
}

function bar({ node, rtt_ms, rtt_source, score, terms, refusal }, decision, worst, name) {
  const parts = Object.entries(terms).filter(([, value]) => value > 0);
  const segments = parts.map(([term, value]) => {
    const segment = html("i", { class: `part ${term}`, title: `${TERMS[term] ?? term}: ${ms(value)}` });
    segment.style.width = `${(100 * value) / worst}%`;
    return segment;
  });
  const chosen = node === decision.node;
  return html("li", { class: chosen ? "chosen" : refusal ? "refused" : "" },
    html("span", { class: "candidate" }, html("span", {}, name), html("small", {}, `${ms(rtt_ms)} · ${SOURCES[rtt_source] ?? rtt_source}`)),
    refusal ? html("span", { class: "refusal" }, refusal)
      : html("span", { class: "bar", role: "img", "aria-label": parts.map(([term, value]) => `${TERMS[term] ?? term} ${ms(value)}`).join(", ") }, ...segments),
    html("span", { class: "score" }, score === null ? "no" : `${Math.round(score * 10) / 10}`));
}
