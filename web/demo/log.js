/** What happened, newest first: one line for one thing, however often or in however many steps it was heard of. */

import { clock, html } from "./dom.js";

const MAX_LINES = 60;
/** The two directions of a link and their tracks come up one after the other within these, in milliseconds. */
const TOGETHER_MS = 8000;
/** Lines back in which a repetition is looked for. */
const REPEATS_WITHIN = 4;

export class Log {
  /** @type {{kind: string, text: string, about: string|null, times: number, at: number, row: HTMLElement}[]} */
  #lines = [];

  constructor(host) {
    this.host = host;
  }

  /**
   * @param {{kind: string, text: string, about?: string}} line  A line about the same thing replaces a recent one.
   */
  add({ kind, text, about = null }) {
    const now = Date.now();
    const recent = this.#lines.slice(0, REPEATS_WITHIN);
    const same = recent.find((line) => line.kind === kind && line.text === text);
    const earlier = about && this.#lines.find((line) => line.about === about && now - line.at < TOGETHER_MS);
    if (earlier) return this.#show(Object.assign(earlier, { kind, text }));
    if (same) this.#lines.splice(this.#lines.indexOf(same), 1);
    const { times = 0, row = html("li", {}, html("time"), html("span")) } = same ?? {};
    const line = { kind, text, about, times: times + 1, at: now, row };
    this.#lines.unshift(line);
    this.host.prepend(line.row);
    this.#lines.splice(MAX_LINES).forEach(({ row }) => row.remove());
    this.#show(line);
  }

  #show({ kind, text, times, at, row }) {
    row.className = kind;
    row.firstChild.textContent = clock(at);
    row.lastChild.textContent = times > 1 ? `${text} (${times} times)` : text;
  }
}
