// Building and patching the page. Everything from outside is text: nothing here ever parses markup.

/** An element: h("a.button", {href, onclick}, "text", child, ...). Children may be nested lists; null and false are left out. */
export function h(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.classList.add(...String(value).split(" ").filter(Boolean));
    else if (key === "dataset") Object.assign(element.dataset, value);
    else if (key in element && typeof value === "boolean") element[key] = value;
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(9)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Put these children in place of what is there, unless it reads the same: focus, selection and scroll stay where they are. */
export function fill(element, ...children) {
  const fresh = document.createElement(element.tagName);
  add(fresh, children);
  element.removeAttribute("aria-busy");
  patch(element, fresh);
  return element;
}

/** Make `old` read like `fresh`, touching only what differs. Children with data-key are matched by it. */
export function patch(old, fresh) {
  const byKey = new Map();
  for (const child of old.children) if (child.dataset.key) byKey.set(child.dataset.key, child);
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    const key = child.dataset?.key;
    let match = key ? byKey.get(key) : place;
    if (key && match && match !== place) old.insertBefore(match, place);
    if (match && !key && match.dataset?.key && match.nodeType === 1) match = null;
    if (!match || match.nodeType !== child.nodeType || match.nodeName !== child.nodeName) {
      old.insertBefore(child, place);
      continue;
    }
    place = match.nextSibling;
    if (child.nodeType === Node.TEXT_NODE) {
      if (match.data !== child.data) match.data = child.data;
    } else if (mustReplace(match, child)) match.replaceWith(child);
    else {
      copyAttributes(match, child);
      if (!match.hasAttribute("data-keep")) patch(match, child);
    }
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

// What listens to events is replaced when it means something else, and kept while it has the focus and means the same.
function mustReplace(old, fresh) {
  if (old.dataset.key !== fresh.dataset.key) return true;
  const interactive = ["BUTTON", "SELECT", "FORM"].includes(fresh.nodeName);
  return interactive && old.dataset.means !== fresh.dataset.means;
}

function copyAttributes(old, fresh) {
  const field = ["INPUT", "TEXTAREA", "SELECT"].includes(old.nodeName);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value && !(field && name === "value")) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name) && !(old.nodeName === "DETAILS" && name === "open")) old.removeAttribute(name);
}

export const $ = (selector, from = document) => from.querySelector(selector);
