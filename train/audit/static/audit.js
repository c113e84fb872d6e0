// Decisions by keyboard; kept in the browser until they are saved as a file.
"use strict";
const body = document.body;
const figures = [...document.querySelectorAll("figure")];
const store = `portraitseg-audit-${body.dataset.digest}`;
const KEYS = { k: "keep", f: "fix", d: "drop" };
let now = 0;
let decisions = {};
try { decisions = JSON.parse(localStorage.getItem(store)) || {}; } catch { /* a browser that keeps nothing */ }

function show(figure) {
  const decision = decisions[figure.dataset.key];
  if (decision) figure.dataset.decision = decision; else delete figure.dataset.decision;
  for (const button of figure.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.as === decision));
  }
}

function count() {
  const done = figures.filter((figure) => decisions[figure.dataset.key]).length;
  document.getElementById("count").textContent = `${done} of ${figures.length} decided`;
}

function keep() {
  try { localStorage.setItem(store, JSON.stringify(decisions)); } catch { /* saving as a file still works */ }
  count();
}

function decide(figure, decision) {
  if (decision) decisions[figure.dataset.key] = decision; else delete decisions[figure.dataset.key];
  show(figure);
  keep();
}

function go(place) {
  if (!figures[place] || figures[place].hidden) return;
  figures[now].classList.remove("now");
  now = place;
  figures[now].classList.add("now");
  figures[now].focus({ preventScroll: true });
  figures[now].scrollIntoView({ block: "nearest" });
}

function step(by, fits = () => true) {
  for (let place = now + by; figures[place]; place += by) {
    if (!figures[place].hidden && fits(figures[place])) { go(place); return; }
  }
}

function save() {
  const content = { schema_version: 1, data: body.dataset.name, decisions };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2) + "\n"], { type: "application/json" }));
  link.download = "decisions.json";
  link.click();
  URL.revokeObjectURL(link.href);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const key = event.key.toLowerCase();
  if (KEYS[key] && figures.length) { decide(figures[now], KEYS[key]); step(1); }
  else if (key === "u" && figures.length) decide(figures[now], null);
  else if (key === "arrowdown" || key === "j") step(1);
  else if (key === "arrowup") step(-1);
  else if (key === "n") step(1, (figure) => !decisions[figure.dataset.key]);
  else if (key === "s") save();
  else return;
  event.preventDefault();
});

document.querySelector("main").addEventListener("click", (event) => {
  const figure = event.target.closest("figure");
  if (!figure) return;
  go(figures.indexOf(figure));
  if (event.target.dataset.as) decide(figure, event.target.dataset.as);
});

document.getElementById("save").addEventListener("click", save);
document.getElementById("kind").addEventListener("change", (event) => {
  for (const figure of figures) figure.hidden = Boolean(event.target.value) && figure.dataset.kind !== event.target.value;
  const first = figures.findIndex((figure) => !figure.hidden);
  if (first >= 0) go(first);
});
document.getElementById("load").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  if (!file) return;
  try { decisions = { ...decisions, ...JSON.parse(await file.text()).decisions }; } catch { return; }
  figures.forEach(show);
  keep();
});

figures.forEach(show);
count();
go(0);
