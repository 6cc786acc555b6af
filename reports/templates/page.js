"use strict";
// Opens the provenance of a number: by click, by keyboard, or by the address `#why=table/row/column`.
// Text from data enters the page through textContent alone.
const data = JSON.parse(document.getElementById("data").textContent);
const panel = document.getElementById("why");
const title = document.getElementById("why-title");
const body = document.getElementById("why-body");
const tip = document.getElementById("tip");
let opener = null;

function find(key) {
  const [name, row, column] = key.split("/");
  const table = data.tables.find((each) => each.table === name);
  const line = table && table.rows[Number(row) - 1];
  const entry = line && line.entries[Number(column) - 1];
  return entry ? { key: table.keys[row - 1][column - 1], own: table.own, row: line, column: table.columns[Number(column) - 1], entry, place: [name, row, column] } : null;
}

function element(tag, text, parent) {
  const node = document.createElement(tag);
  if (text !== null) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function fact(list, term, text) {
  const pair = element("div", null, list);
  element("dt", term, pair);
  element("dd", text, pair);
}

function fixed(value, digits) {
  return value === null ? "NaN" : value.toFixed(digits);
}

// A run is a list in the order that its table names.
function fields(run) {
  return Object.fromEntries(data.tables[0].runs.map((name, i) => [name, run[i]]));
}

function runsTable(runs, digits, parent) {
  const table = element("table", null, parent);
  const head = element("tr", null, element("thead", null, table));
  for (const name of ["seed", "value", "run", "code"]) element("th", name, head).scope = "col";
  const rows = element("tbody", null, table);
  for (const values of runs) {
    const run = fields(values);
    const row = element("tr", null, rows);
    element("th", String(run.seed), row).scope = "row";
    element("td", fixed(run.value, digits), row);
    element("code", run.run_id, element("td", null, row));
    const code = element("code", run.commit.replace(/\b([0-9a-f]{10})[0-9a-f]{30}\b/g, "$1"), element("td", null, row));
    code.title = run.commit;
  }
}

function query(found) {
  return found.column.query.replace("$cell", () => "'" + found.entry.cell.replaceAll("'", "''") + "'");
}

function show(key) {
  const found = find(key);
  if (!found) return;
  const { entry, column } = found;
  const digits = column.digits + 2;
  title.textContent = `${found.row.name}: ${column.name}`;
  body.replaceChildren();
  const list = element("dl", null, body);
  fact(list, "mean", entry.value === null ? entry.state : fixed(entry.value, digits));
  if (entry.sd !== null) fact(list, "sample sd", fixed(entry.sd, digits));
  if (entry.interval) fact(list, "95 % t interval", `${fixed(entry.interval[0], digits)} to ${fixed(entry.interval[1], digits)}`);
  fact(list, "seeds", `${entry.n} of ${entry.planned}`);
  if (entry.delta !== null) fact(list, "to the baseline", (entry.delta < 0 ? "−" : "+") + fixed(Math.abs(entry.delta), digits));
  if (entry.detail) fact(list, "missing", entry.detail);
  if (entry.cell) fact(list, "cell", Object.entries(JSON.parse(entry.cell)).map((pair) => pair.join("=")).join(", ") || "all");
  if (entry.runs.length) runsTable(entry.runs, digits, body);
  if (entry.cell || found.own) {
    element("h3", "Query", body);
    element("pre", query(found), body).tabIndex = 0;
    element("p", "On warehouse.duckdb of the study. In the text of a paper, and in the terminal:", body);
    element("pre", `\\ablate{${found.key}}`, body).tabIndex = 0;
    element("pre", `ablate why ${data.study} ${found.place.join(" ")}`, body).tabIndex = 0;
  }
  panel.hidden = false;
  document.body.classList.add("opened");
  for (const button of document.querySelectorAll("[data-why]")) button.toggleAttribute("aria-current", button.dataset.why === key);
}

function close() {
  panel.hidden = true;
  document.body.classList.remove("opened");
  for (const button of document.querySelectorAll("[aria-current]")) button.removeAttribute("aria-current");
  history.replaceState(null, "", location.pathname + location.search);
  if (opener) opener.focus();
}

function hover(event) {
  const button = event.target.closest ? event.target.closest("[data-why]") : null;
  const found = button && find(button.dataset.why);
  if (!found || !panel.hidden) {
    tip.hidden = true;
    return;
  }
  const lines = found.entry.runs.map(fields).map((run) => `seed ${run.seed}: ${fixed(run.value, found.column.digits)}`);
  if (found.entry.detail) lines.push(found.entry.detail);
  tip.textContent = lines.join("\n");
  tip.hidden = !lines.length;
  const box = button.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8))}px`;
  tip.style.top = `${box.bottom + 6 + tip.offsetHeight > innerHeight ? box.top - tip.offsetHeight - 6 : box.bottom + 6}px`;
}

function fromAddress() {
  if (location.hash.startsWith("#why=")) show(decodeURIComponent(location.hash.slice(5)));
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-why]");
  if (!button) return;
  opener = button;
  tip.hidden = true;
  show(button.dataset.why);
  history.replaceState(null, "", "#why=" + encodeURIComponent(button.dataset.why));
  panel.focus({ preventScroll: true });
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  tip.hidden = true;
  if (!panel.hidden) close();
});
document.addEventListener("mouseover", hover);
document.addEventListener("focusin", hover);
document.getElementById("why-close").addEventListener("click", close);
addEventListener("hashchange", fromAddress);
addEventListener("scroll", () => { tip.hidden = true; }, { passive: true, capture: true });
fromAddress();
