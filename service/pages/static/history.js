// The videos that were made in this browser, with a small still of each.

import { t, time } from "./texts.js";

const NAME = "talkface.history";
const MOST = 24;
const list = document.getElementById("history-list");

function read() {
  try {
    return JSON.parse(localStorage.getItem(NAME)) ?? [];
  } catch {
    return [];
  }
}

function write(entries) {
  try {
    localStorage.setItem(NAME, JSON.stringify(entries.slice(0, MOST)));
  } catch {
    // Full, or not allowed: then it is not remembered.
  }
  showHistory();
}

let on = { open: () => {}, erase: () => {} };

/** Show the list; `handlers` are called with the id of a job. */
export function prepareHistory(handlers) {
  on = handlers;
  showHistory();
}

/** Remember a job, or more about one that is remembered. */
export function remember(id, more) {
  const entries = read();
  const known = entries.find((entry) => entry.id === id);
  if (known) Object.assign(known, more);
  else entries.unshift({ id, at: new Date().toISOString(), still: "", ...more });
  write(entries);
}

export const forget = (id) => write(read().filter((entry) => entry.id !== id));
export const remembered = (id) => read().find((entry) => entry.id === id);

function showHistory() {
  const entries = read();
  document.getElementById("history").hidden = !entries.length;
  list.replaceChildren(...entries.map(item));
}

function item(entry) {
  const when = time(entry.at);
  const made = document.createElement("li");
  const open = button("open", t("history.open", { time: when }), () => on.open(entry.id));
  const picture = document.createElement(entry.still ? "img" : "span");
  if (entry.still) [picture.src, picture.alt] = [entry.still, ""];
  const told = document.createElement("span");
  told.textContent = when;
  open.append(picture, told);
  const cross = button("erase", t("history.erase", { time: when }), () => confirm(t("result.erase")) && on.erase(entry.id));
  cross.textContent = "×";
  made.append(open, cross);
  return made;
}

function button(kind, label, onClick) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.setAttribute("aria-label", label);
  made.addEventListener("click", onClick);
  return made;
}
