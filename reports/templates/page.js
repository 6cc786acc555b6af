"use strict";
// Opens the panel of a number: by click, by keyboard, or by the address `#why=table/row/column`.
// Text from data enters the page through textContent alone.
const data = JSON.parse(document.getElementById("data").textContent);
const panel = document.getElementById("why");
const title = document.getElementById("why-title");
const body = document.getElementById("why-body");
const tip = document.getElementById("tip");
let opened = null;

// Rows keep their places when a table is sorted.
const tables = new Map(data.tables.map((each) => [each.table, each]));
const rowPlaces = new Map();
const grids = [...document.querySelectorAll("table.results")].filter((each) => tables.has(each.id.slice(6)));
for (const grid of grids) {
  if (grid.classList.contains("printed")) continue;
  grid.classList.add("open");
  grid.setAttribute("role", "grid");
  number(grid);
  const first = grid.tBodies[0].querySelector("td");
  if (first) first.tabIndex = 0; // one stop of the tab key for each table; arrow keys go on from there
}

// Remembers the places of a table's rows, in the order of the file.
function number(table) {
  [...table.tBodies[0].rows].forEach((row, i) => rowPlaces.set(row, i));
}

// The text that holds a long table's other rows: they become rows when they are wanted, which takes a browser a while.
const rests = new Map();

// All rows of a table, those that were text until now among them.
function whole(table) {
  const rest = rests.get(table);
  if (!rest) return;
  rests.delete(table);
  table.tBodies[0].insertAdjacentHTML("beforeend", rest.textContent);
  if (table.classList.contains("open")) number(table);
  rest.nextElementSibling.remove();
  rest.remove();
}

for (const rest of document.querySelectorAll("script.rest")) {
  const table = rest.previousElementSibling.querySelector("table");
  rests.set(table, rest);
  const button = document.createElement("button");
  button.type = "button";
  button.className = "whole-button";
  button.textContent = `Show all ${rest.dataset.rows} rows`;
  button.addEventListener("click", () => whole(table));
  rest.after(button);
}
addEventListener("beforeprint", () => { for (const table of [...rests.keys()]) whole(table); });

function parse(list) {
  return Object.fromEntries(data.fields.map((field, i) => [field, list[i] ?? null]));
}

// The number at a place, rows and columns from 0 on; null where there is none.
function at(name, i, j) {
  const table = tables.get(name);
  const list = table && table.entries[i] && table.entries[i][j];
  if (!list) return null;
  const row = table.rows[i], column = table.columns[j];
  const key = table.keys[`${i}/${j}`] ?? row.key + column.key;
  return { table, row, column, key, entry: parse(list), place: [name, i + 1, j + 1], own: table.own };
}

// The number in a cell of a table of the page; null for a cell that opens nothing.
function find(td) {
  const row = td && td.parentNode;
  if (!rowPlaces.has(row)) return null;
  const heads = row.cells.length - row.querySelectorAll("td").length;
  const name = td.closest("table").id.slice(6);
  // A difference to the baseline has a column of its own, and opens the number that is compared.
  return at(name, rowPlaces.get(row), tables.get(name).printed[td.cellIndex - heads]);
}

function cellAt(key) {
  const [name, i, j] = key.split("/");
  const grid = grids.find((each) => each.id.slice(6) === name);
  if (grid && Number(i) > grid.tBodies[0].rows.length) whole(grid);
  const row = grid && [...grid.tBodies[0].rows].find((each) => rowPlaces.get(each) === Number(i) - 1);
  return row ? row.querySelectorAll("td")[tables.get(name).printed.indexOf(Number(j) - 1)] || null : null;
}

function show(td) {
  const found = find(td);
  if (!found) return false;
  if (opened) opened.removeAttribute("aria-current");
  opened = td;
  title.textContent = `${found.row.name}: ${found.column.name}`;
  body.replaceChildren();
  fillPanel(found, body);
  panel.hidden = false;
  panel.scrollTop = 0;
  document.body.classList.add("opened");
  td.setAttribute("aria-current", "true");
  tip.hidden = true;
  history.replaceState(history.state, "", "#why=" + encodeURIComponent(found.place.join("/")));
  return true;
}

function close() {
  panel.hidden = true;
  document.body.classList.remove("opened");
  history.replaceState(history.state, "", location.pathname + location.search);
  if (!opened) return;
  opened.removeAttribute("aria-current");
  opened.tabIndex = opened.tabIndex < 0 ? -1 : 0;
  opened.focus({ preventScroll: true });
  opened = null;
}

function hover(event) {
  const td = event.target.closest ? event.target.closest("table.open td") : null;
  const found = panel.hidden && td ? find(td) : null;
  if (!found) {
    tip.hidden = true;
    return;
  }
  const { values, runs, detail } = found.entry;
  const lines = values.map((value, i) => `seed ${data.sets[runs][i][0]}: ${fixed(value, found.column.digits)}`);
  if (detail) lines.push(detail);
  tip.textContent = lines.join("\n");
  tip.hidden = !lines.length;
  const box = td.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.bottom + 6 + tip.offsetHeight > innerHeight ? box.top - tip.offsetHeight - 6 : box.bottom + 6}px`;
}

function fromAddress() {
  if (!location.hash.startsWith("#why=")) return;
  const td = cellAt(decodeURIComponent(location.hash.slice(5)));
  if (td && show(td)) td.scrollIntoView({ block: "center", behavior: "instant" });
}

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

// Moves from a number to its neighbour; what a filter hides is passed over.
function step(td, [down, right]) {
  let row = td.parentNode, index = td.cellIndex;
  do {
    row = down > 0 ? row.nextElementSibling : down < 0 ? row.previousElementSibling : row;
    index += right;
  } while (row && row.cells[index] && (row.hidden || row.cells[index].hidden));
  const next = row && row.cells[index];
  if (!next || next.tagName !== "TD") return;
  td.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

document.addEventListener("click", (event) => {
  const td = event.target.closest("table.open td");
  if (!td || !show(td)) return;
  panel.focus({ preventScroll: true });
});
document.addEventListener("keydown", (event) => {
  const td = event.target.closest ? event.target.closest("table.open td") : null;
  if (event.key === "Escape") {
    tip.hidden = true;
    if (!panel.hidden) close();
  } else if (td && STEPS[event.key]) {
    event.preventDefault();
    step(td, STEPS[event.key]);
  } else if (td && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    if (show(td)) panel.focus({ preventScroll: true });
  }
});
document.addEventListener("mouseover", hover);
document.addEventListener("focusin", hover);
document.getElementById("why-close").addEventListener("click", close);
addEventListener("hashchange", fromAddress);
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });
