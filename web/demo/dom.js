/** The few DOM helpers that the page shares. */

export const byId = (id) => document.getElementById(id);

/** Make an element: attributes, then children (text or nodes). */
export function html(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  set(element, attributes);
  element.append(...children);
  return element;
}

/** Set attributes; null removes one. */
export function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null) element.removeAttribute(name);
    else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
  }
  return element;
}

/**
 * Make the children of `parent` match `items`, keeping elements of the same key: an animation or a video that goes
 * on must not be replaced.
 */
export function keyed(parent, items, keyOf, create, update) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const elements = [];
  for (const item of items) {
    const key = keyOf(item);
    let element = old.get(key);
    old.delete(key);
    if (!element) {
      element = create(item);
      element.dataset.key = key;
      parent.append(element);
    }
    update(element, item);
    elements.push(element);
  }
  for (const element of old.values()) element.remove();
  // In the order of the items; what stands right is not touched, because a video that is moved stops.
  let next = parent.firstChild;
  for (const element of elements) {
    if (element === next) next = next.nextSibling;
    else parent.insertBefore(element, next);
  }
}

/** One colour per participant, the same in every tab. */
export function hueOf(text) {
  let hash = 7;
  for (const character of text) hash = (hash * 31 + character.codePointAt(0)) % 997;
  return (hash * 47) % 360;
}

export const count = (n, noun) => `${n} ${noun}${n === 1 ? "" : "s"}`;
/** A moment as HH:MM:SS. */
export const clock = (moment) => new Date(moment).toLocaleTimeString("en-GB");
export const ms = (value) => (value === null || value === undefined ? "–" : `${Math.round(value * 10) / 10} ms`);
