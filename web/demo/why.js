/** The reasons: every candidate with its score, term by term, and the sentences of the decision. */

import { byId, html, ms } from "./dom.js";

const TERMS = {
  delay: "delay to the others",
  edge: "distance to the own edge",
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

/** @param {string} who @param {object|null} decision  From the API. @param {(region: string) => string} titleOf */
export function drawDecision(who, decision, titleOf) {
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
    ...(rest.length ? [html("ul", { class: "reasons" }, ...rest.map((sentence) => html("li", {}, sentence)))] : []),
    html("ol", { class: "candidates", "aria-label": "Candidates, the best first; lower is better" }, ...bars),
    html("p", { class: "terms" }, "Cost in milliseconds, lower is better: ",
      ...used.map((term) => html("span", { class: `term ${term}` }, TERMS[term]))),
  );
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
