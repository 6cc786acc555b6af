// Sorts a table by a column, and shows the cells of some levels alone: what is seen changes, never a number.

// The header cells above single columns, from the left.
function columnHeads(table) {
  const rows = [...table.tHead.rows];
  const first = [...rows[0].cells].filter((cell) => cell.scope === "col");
  return rows.length > 1 ? [...first, ...rows.at(-1).cells] : first;
}

// "71.2 ± 0.3" is a number, "−0.5 [−1, 0]" as well; null is missing, and stays at the end.
function sortKey(row, index) {
  const cell = row.cells[index];
  const text = cell.textContent.trim();
  if (!text || text === "–" || cell.querySelector(".missing")) return null;
  const number = parseFloat(text.replace("−", "-"));
  return Number.isNaN(number) ? text : number;
}

function compare(a, b, sign) {
  if (a === null || b === null) return (a === null) - (b === null);
  const numbers = typeof a === "number" && typeof b === "number";
  return sign * (numbers ? a - b : String(a).localeCompare(String(b)));
}

function sort(table, rows, heads, index) {
  const before = heads[index].getAttribute("aria-sort");
  const first = rows.some((row) => typeof sortKey(row, index) === "number") ? "descending" : "ascending";
  const second = first === "descending" ? "ascending" : "descending";
  const order = before === null ? first : before === first ? second : null;
  for (const head of heads) head.removeAttribute("aria-sort");
  if (order) heads[index].setAttribute("aria-sort", order);
  const sign = order === "ascending" ? 1 : -1;
  const sorted = order ? [...rows].sort((a, b) => compare(sortKey(a, index), sortKey(b, index), sign)) : rows;
  table.tBodies[0].prepend(...sorted);
  table.classList.toggle("sorted", order !== null);
}

function makeSortable(table) {
  const ordered = () => [...table.tBodies[0].rows].filter((row) => !row.classList.contains("sum"));
  let rows = ordered();
  if (rows.length < 2 || table.querySelector("tbody [rowspan]")) return;
  const heads = columnHeads(table);
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      whole(table);
      if (!table.querySelector("[aria-sort]")) rows = ordered(); // as the file has them: nothing is sorted yet
      sort(table, rows, heads, index);
    });
  });
}

const boxes = [...document.querySelectorAll("#filter input")];

// Levels that are switched off: factor → levels.
function switchedOff() {
  const off = new Map();
  for (const box of boxes.filter((each) => !each.checked)) {
    off.set(box.dataset.factor, [...(off.get(box.dataset.factor) || []), box.value]);
  }
  return off;
}

// Whether a cell (factor → level) has a level that is switched off; a factor that it lacks does not matter.
function excluded(cell, off) {
  for (const [factor, levels] of off) if (levels.includes(cell[factor])) return true;
  return false;
}

const cells = data.cells.map(([key]) => (key ? JSON.parse(key) : null));

// Of each number of a table: true where it is filtered out, false where not, null where there is no cell.
function states(table, off) {
  const { entries, printed } = tables.get(table.id.slice(6));
  const out = cells.map((cell) => (cell ? excluded(cell, off) : null));
  return [...table.tBodies[0].rows].map((row) => {
    const line = entries[rowPlaces.get(row)];
    const own = printed.map((place) => out[line[place][0]]);
    return [...Array(row.cells.length - own.length).fill(null), ...own];
  });
}

// A row or a column goes when the filter leaves nothing of it; single numbers fade.
function gone(own) {
  return own.includes(true) && !own.includes(false);
}

// Group headers with the columns below each; spans as they were before any was hidden.
function columnGroups(table) {
  const fixed = [...table.tHead.rows[0].cells].filter((cell) => cell.scope === "col" && cell.rowSpan > 1).length;
  return [...table.tHead.rows].slice(0, -1).flatMap((row) => {
    let start = fixed;
    return [...row.querySelectorAll('[scope="colgroup"]')].map((head) => {
      head.dataset.span = head.dataset.span || head.colSpan;
      const end = start + Number(head.dataset.span);
      const columns = Array.from({ length: end - start }, (_, i) => start + i);
      start = end;
      return { head, columns };
    });
  });
}

function filterTable(table, off) {
  const rows = [...table.tBodies[0].rows];
  if (off.size) whole(table);
  const found = states(table, off);
  const hidden = found[0] ? found[0].map((_, j) => gone(found.map((row) => row[j]))) : [];
  const groups = columnGroups(table);
  const names = boxes.filter((box) => !box.checked).map((box) => `${box.dataset.name}: ${box.dataset.label}`);
  // A cell without the split's factor is under each of its levels: those that are switched off go all the same.
  for (const group of groups.filter((each) => names.includes(each.head.textContent))) {
    for (const j of group.columns) hidden[j] = true;
  }
  rows.forEach((row, i) => {
    row.hidden = gone(found[i]);
    [...row.cells].forEach((td, j) => {
      td.hidden = hidden[j];
      td.classList.toggle("outside", found[i][j] === true);
    });
  });
  columnHeads(table).forEach((head, j) => { head.hidden = hidden[j]; });
  for (const { head, columns } of groups) {
    const left = columns.filter((j) => !hidden[j]).length;
    head.hidden = left === 0;
    head.colSpan = Math.max(left, 1);
  }
}

function filterGrid(off) {
  const rows = [...document.querySelectorAll(".grid tr[data-levels]")];
  for (const row of rows) {
    const levels = JSON.parse(row.dataset.levels);
    row.hidden = excluded(Object.fromEntries(data.factors.map((factor, i) => [factor, levels[i]])), off);
  }
  return [rows.filter((row) => !row.hidden).length, rows.length];
}

let filtered = false;

function filter() {
  const off = switchedOff();
  if (!off.size && !filtered) return;
  filtered = off.size > 0;
  const [left, all] = filterGrid(off);
  for (const table of grids.filter((each) => each.classList.contains("open"))) filterTable(table, off);
  const names = boxes.filter((box) => !box.checked).map((box) => `${box.dataset.name} ${box.dataset.label}`);
  const text = `${left} of ${all} cells are shown, without ${names.join(", ")}. Claims, effects and figures stay whole.`;
  document.getElementById("filter-state").textContent = filtered ? text : "";
  document.querySelector("#filter summary").textContent = filtered ? `Filter: ${names.length} off` : "Filter";
}

for (const table of document.querySelectorAll("main table")) makeSortable(table);
if (boxes.length) {
  document.getElementById("filter").hidden = false;
  document.getElementById("filter").addEventListener("change", filter);
  document.getElementById("filter-all").addEventListener("click", () => {
    for (const box of boxes) box.checked = true;
    filter();
  });
  filter(); // a browser that comes back to the page keeps the boxes as they were
  document.addEventListener("click", (event) => {
    const box = document.getElementById("filter");
    if (box.open && !box.contains(event.target)) box.open = false;
  });
}
