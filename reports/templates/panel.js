// What the panel of a number shows: the number, its seeds, their runs and files, and how to get it again.

function element(tag, text, parent, className) {
  const node = document.createElement(tag);
  if (text !== null) node.textContent = text;
  if (className) node.className = className;
  if (parent) parent.append(node);
  return node;
}

function fact(list, term, text) {
  const pair = element("div", null, list);
  element("dt", term, pair);
  element("dd", text, pair);
}

function fixed(value, digits) {
  return value === null ? "NaN" : value.toFixed(digits).replace("-", "−");
}

function signed(value, digits) {
  return (value < 0 ? "" : "+") + fixed(value, digits);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a browser that keeps the clipboard from pages of files
    const area = element("textarea", null, document.body);
    area.value = text;
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  const said = document.getElementById("copied");
  said.hidden = false;
  setTimeout(() => { said.hidden = true; }, 1200);
}

// A text that people take elsewhere, with its button.
function copied(text, parent, shown) {
  const box = element("div", null, parent, "copy");
  element("code", shown ?? text, box);
  const button = element("button", "Copy", box);
  button.type = "button";
  button.setAttribute("aria-label", `Copy ${text}`);
  button.addEventListener("click", () => copy(text));
  return box;
}

function drawn(tag, attributes, parent, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

const WIDTH = 420;

function picture(height, label, parent) {
  return drawn("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": label, class: "picture" }, parent);
}

// A scale from [low, high] to pixels, with a margin where all is one value.
function scale(low, high, from, to) {
  const wide = high - low || Math.abs(high) * 0.1 || 1;
  const start = high === low ? low - wide / 2 : low;
  return (value) => from + ((value - start) / wide) * (to - from);
}

// Each seed a dot over the interval of their mean.
function dots(entry, column, parent) {
  const seeds = data.sets[entry.runs].map((run) => run[0]);
  const known = entry.values.map((value, i) => [value, seeds[i]]).filter((pair) => pair[0] !== null);
  if (!known.length || entry.value === null) return;
  const half = entry.half ?? 0;
  const all = [...known.map((pair) => pair[0]), entry.value - half, entry.value + half];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const x = scale(low, high, 24, WIDTH - 24);
  const svg = picture(58, `${known.length} seeds from ${fixed(low, column.digits)} to ${fixed(high, column.digits)}`, parent);
  if (half) drawn("line", { x1: x(entry.value - half), x2: x(entry.value + half), y1: 20, y2: 20, class: "range" }, svg);
  drawn("line", { x1: x(entry.value), x2: x(entry.value), y1: 9, y2: 31, class: "middle" }, svg);
  for (const [value, seed] of known) {
    const dot = drawn("circle", { cx: x(value), cy: 20, r: 4.5, class: "dot" }, svg);
    drawn("title", {}, dot, `seed ${seed}: ${fixed(value, column.digits + 2)}`);
  }
  const ends = high === low ? [low] : [low, high];
  ends.forEach((end, i) => {
    const anchor = ends.length === 1 ? "middle" : i ? "end" : "start";
    const place = ends.length === 1 ? x(end) : i ? WIDTH - 4 : 4;
    drawn("text", { x: place, y: 52, "text-anchor": anchor }, svg, fixed(end, column.digits));
  });
}

// A number at the end of an axis, with three digits at most.
function short(value) {
  const text = String(Number(value.toPrecision(3)));
  return text.length > 6 ? value.toExponential(1) : text;
}

// The loss of each run over its steps.
function lossCurves(entry, parent) {
  const found = data.sets[entry.runs].map(([seed, run]) => [seed, data.curves.runs[run]]).filter((pair) => pair[1]);
  if (!found.length) return;
  element("h3", `${data.curves.metric}, each seed`, parent);
  const steps = found.flatMap((pair) => pair[1][0]), values = found.flatMap((pair) => pair[1][1]);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const x = scale(first, last, 44, WIDTH - 8), y = scale(low, high, 112, 10);
  const svg = picture(140, `${data.curves.metric} from step ${first} to ${last}`, parent);
  drawn("path", { d: `M44 10V112H${WIDTH - 8}`, class: "axis" }, svg);
  found.forEach(([seed, [at, own]], i) => {
    const line = drawn("polyline", { points: at.map((each, k) => `${x(each).toFixed(1)},${y(own[k]).toFixed(1)}`).join(" "), class: `curve c${i % 4}` }, svg);
    drawn("title", {}, line, `seed ${seed}`);
  });
  drawn("text", { x: 40, y: 16, "text-anchor": "end" }, svg, short(high));
  drawn("text", { x: 40, y: 112, "text-anchor": "end" }, svg, short(low));
  drawn("text", { x: 44, y: 132 }, svg, String(first));
  drawn("text", { x: WIDTH - 8, y: 132, "text-anchor": "end" }, svg, `step ${last}`);
}

function folder([id, place]) {
  const run = data.runs[place];
  return (id === run ? data.folders[0] : data.folders[1]).replace("RUN", run).replace("TASK", id);
}

// The files of a run's tasks, in the order in which they ran.
function taskFiles(task, here, parent) {
  const [id, run, stage, mlflow, commit, origin] = task;
  element("h4", data.stages[stage], parent);
  const list = element("dl", null, parent);
  const place = (name) => `${data.home}/${folder(task)}/${name}`;
  const line = (term, text, shown) => {
    const pair = element("div", null, list);
    element("dt", term, pair);
    copied(text, element("dd", null, pair), shown);
  };
  const files = { ...data.files, ...(id === data.runs[run] ? data.opening : {}) };
  if (here) for (const [term, name] of Object.entries(files)) line(term, place(name), `${folder(task)}/${name}`);
  if (mlflow) line("MLflow run", mlflow);
  if (origin) line("Exists already", origin);
  if (data.commits[commit]) line("code", data.commits[commit], data.commits[commit].slice(0, 10));
}

function runList(entry, column, parent) {
  const here = new Set(data.here);
  element("h3", "Seeds and their files", parent);
  const sets = data.sets[entry.runs];
  sets.forEach(([seed, run, tasks, commit], i) => {
    const details = element("details", null, parent, "run");
    const summary = element("summary", null, details);
    element("span", `seed ${seed}`, summary);
    element("b", fixed(entry.values[i], column.digits + 2), summary);
    element("code", run, summary);
    const own = tasks.map((place) => data.tasks[place]);
    for (const task of own) taskFiles(task, here.has(run), details);
    if (commit) element("p", `code ${commit}`, details);
    if (own.length && !here.has(run)) element("p", "It ran in another home: its files are there.", details);
  });
  if (sets.length) element("p", `Files lie in ${data.home}; MLflow’s store is ${data.tracking}.`, parent, "where");
}

// In which keys of its configuration a cell is not the baseline.
function difference(changes, parent) {
  if (changes === null) return;
  element("h3", "Configuration, less the baseline’s", parent);
  if (!changes.length) {
    element("p", "It is the baseline.", parent);
    return;
  }
  const table = element("table", null, parent, "difference");
  const head = element("tr", null, element("thead", null, table));
  for (const text of ["key", "baseline", "here"]) element("th", text, head).scope = "col";
  const rows = element("tbody", null, table);
  for (const [key, base, own] of changes) {
    const row = element("tr", null, rows);
    element("th", key, row).scope = "row";
    element("td", base, row);
    element("td", own, row);
  }
}

function factsOf({ entry, column }, parent) {
  const digits = column.digits + 2;
  const { value, sd, half, values, planned, delta, delta_low: low, delta_high: high, delta_p: p } = entry;
  const list = element("dl", null, parent);
  fact(list, "mean", value === null ? entry.state : fixed(value, digits));
  if (half) fact(list, "95 % interval", `${fixed(value - half, digits)} to ${fixed(value + half, digits)}`);
  if (sd !== null) fact(list, "sample sd", fixed(sd, digits));
  fact(list, "seeds", `${values.filter((each) => each !== null).length} of ${planned}`);
  if (delta !== null) {
    const interval = low === null ? "" : ` [${signed(low, column.digits)}, ${signed(high, column.digits)}]`;
    fact(list, "to the baseline", signed(delta, digits) + interval + (p === null ? "" : `, p = ${p}`));
  }
  if (entry.detail) fact(list, "missing", entry.detail);
  return list;
}

function fillPanel(found, parent) {
  const { entry, column } = found;
  const [cell, words, changes] = data.cells[entry.cell];
  const list = factsOf(found, parent);
  if (cell) fact(list, "cell", Object.entries(JSON.parse(cell)).map((pair) => pair.join("=")).join(", ") || "all");
  dots(entry, column, parent);
  lossCurves(entry, parent);
  if (entry.values.length) runList(entry, column, parent);
  if (!cell && !found.own) return;
  if (words) {
    difference(changes, parent);
    element("h3", "Run these seeds again, in an empty home", parent);
    const seeds = data.sets[entry.runs].map((run) => run[0]);
    copied(`ablate --home again run ${data.asked} ${words}${seeds.length ? ` 'seeds=[${seeds}]'` : ""}`, parent);
  }
  element("h3", "In the text of a paper, and in the terminal", parent);
  copied(`\\ablate{${found.key}}`, parent);
  copied(`ablate why ${data.study} ${found.place.join(" ")}`, parent);
  const query = element("details", null, parent);
  element("summary", "SQL", query);
  copied(column.query.replace("$cell", () => "'" + cell.replaceAll("'", "''") + "'"), query).classList.add("long");
  element("p", `On ${data.warehouse}`, query, "where");
}

fromAddress();
