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
  const rows = [...table.tBodies[0].rows].filter((row) => !row.classList.contains("sum"));
  if (rows.length < 2 || table.querySelector("tbody [rowspan]")) return;
  const heads = columnHeads(table);
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.title = "Sort by this column";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(table, rows, heads, index));
  });
}

const boxes = [...document.querySelectorAll("#filter input")];

// Whether a cell (factor → level) has a level that is switched off; a factor that it lacks does not matter.
function excluded(cell) {
  return boxes.some((box) => !box.checked && cell[box.dataset.factor] === box.value);
}

// Of a number's place: true where it is filtered out, false where not, null where there is no cell.
function outside(td) {
  const button = td.querySelector("[data-why]");
  const found = button && find(button.dataset.why);
  return found && found.entry.cell ? excluded(JSON.parse(found.entry.cell)) : null;
}

// A row or a column goes when the filter leaves nothing of it; single numbers fade.
function gone(states) {
  return states.includes(true) && !states.includes(false);
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

function filterTable(table) {
  const rows = [...table.tBodies[0].rows];
  const states = rows.map((row) => [...row.cells].map((td) => (td.tagName === "TD" ? outside(td) : null)));
  const hidden = states[0] ? states[0].map((_, j) => gone(states.map((row) => row[j]))) : [];
  const groups = columnGroups(table);
  const off = boxes.filter((box) => !box.checked).map((box) => `${box.dataset.factor}: ${box.value}`);
  // A cell without the split's factor stands under each of its levels: those that are switched off go all the same.
  for (const group of groups.filter((each) => off.includes(each.head.textContent))) {
    for (const j of group.columns) hidden[j] = true;
  }
  rows.forEach((row, i) => {
    row.hidden = gone(states[i]);
    [...row.cells].forEach((td, j) => {
      td.hidden = hidden[j];
      td.classList.toggle("outside", states[i][j] === true);
    });
  });
  columnHeads(table).forEach((head, j) => { head.hidden = hidden[j]; });
  for (const { head, columns } of groups) {
    const left = columns.filter((j) => !hidden[j]).length;
    head.hidden = left === 0;
    head.colSpan = Math.max(left, 1);
  }
}

function filterGrid() {
  const rows = [...document.querySelectorAll(".grid tr[data-levels]")];
  for (const row of rows) {
    const levels = JSON.parse(row.dataset.levels);
    row.hidden = excluded(Object.fromEntries(data.factors.map((factor, i) => [factor, levels[i]])));
  }
  return [rows.filter((row) => !row.hidden).length, rows.length];
}

function filter() {
  const [left, all] = filterGrid();
  for (const table of document.querySelectorAll("table.results:not(.printed)")) filterTable(table);
  const off = boxes.filter((box) => !box.checked).map((box) => `${box.dataset.factor} ${box.value}`);
  const text = `${left} of ${all} cells are shown, without ${off.join(", ")}. Claims, effects and figures stay whole.`;
  document.getElementById("filter-state").textContent = off.length ? text : "";
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
}
