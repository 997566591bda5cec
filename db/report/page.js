const PAGE = 100;
const shown = (value) => (value === null || value === undefined ? "" : value.toFixed(2));
const natural = new Intl.Collator("en", { numeric: true }).compare;

function compare(a, b) {
  if (a === null || a === "" || b === null || b === "") return (a === null || a === "") - (b === null || b === "");
  return typeof a === "number" && typeof b === "number" ? a - b : natural(a, b);
}

// Tables: the first click on a number sorts the highest first, on a text alphabetically; empty cells stay last.
function turn(header, numeric) {
  const before = header.getAttribute("aria-sort");
  const next = before ? (before === "ascending" ? "descending" : "ascending") : numeric ? "descending" : "ascending";
  header.parentNode.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", next);
  return next === "ascending" ? 1 : -1;
}

function ordered(a, b, sign) {
  const empty = (x) => x === null || x === "";
  return empty(a) || empty(b) ? compare(a, b) : sign * compare(a, b);
}

function sortable(table) {
  table.tHead.addEventListener("click", (event) => {
    const header = event.target.closest("th");
    if (!event.target.closest("button")) return;
    const numeric = header.classList.contains("number");
    const sign = turn(header, numeric);
    const value = (row) => {
      const text = row.cells[header.cellIndex].dataset.value;
      return numeric && text !== "" ? Number(text) : text;
    };
    const rows = [...table.tBodies[0].rows].sort((a, b) => ordered(value(a), value(b), sign));
    table.classList.add("sorted");
    table.tBodies[0].append(...rows);
  });
}

document.querySelectorAll("table.sortable").forEach(sortable);

// Breakdowns
const groups = JSON.parse(element("breakdowns").textContent);

const NUMBERS_FROM = 5;

function drawGroups() {
  const table = element("group-table");
  const wanted = (row) =>
    row[0] === element("dimension").value &&
    (!element("group-value").value || row[1] === element("group-value").value) &&
    (!element("group-language").value || row[4] === element("group-language").value);
  const kind = (at) => (at >= NUMBERS_FROM ? "number" : "");
  const head = make("tr");
  groups.columns.slice(1).forEach((name, at) => {
    const header = make("th", null, kind(at)), button = make("button", name);
    button.type = "button";
    header.append(button);
    head.append(header);
  });
  table.tHead.replaceChildren(head);
  table.classList.remove("sorted");
  const rows = groups.rows.filter(wanted).map((row, at, all) => {
    const line = make("tr", null, at && row[1] !== all[at - 1][1] ? "opens" : "");
    row.slice(1).forEach((value, at) => {
      const box = make("td", typeof value === "number" && at > NUMBERS_FROM ? shown(value) : value, kind(at));
      box.dataset.value = value ?? "";
      line.append(box);
    });
    return line;
  });
  table.tBodies[0].replaceChildren(...rows);
}

function chooseDimension() {
  const rows = groups.rows.filter((row) => row[0] === element("dimension").value);
  refill(element("group-value"), [...new Set(rows.map((row) => row[1]))].sort(natural), "all");
  drawGroups();
}

if (groups.rows.length) {
  refill(element("dimension"), [...new Set(groups.rows.map((row) => row[0]))]);
  refill(element("group-language"), [...new Set(groups.rows.map((row) => row[4]))], "all");
  element("dimension").addEventListener("change", chooseDimension);
  sortable(element("group-table"));
  ["group-value", "group-language"].forEach((id) => element(id).addEventListener("change", drawGroups));
  chooseDimension();
} else {
  element("groups").hidden = true;
}

// Responses: the index is unpacked at once, the texts of a query when it is opened. They are in the page, or the server
// of `icl browse` has them.
async function unpack(node, address) {
  const text = node ? node.textContent : await (await fetch(address)).json();
  const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

const load = document.body.dataset.load;
const textNodes = document.querySelectorAll("script.texts");
const unpacked = new Map();

function texts(chunk) {
  if (!unpacked.has(chunk)) unpacked.set(chunk, unpack(textNodes[chunk], `texts/${load}/${chunk}`));
  return unpacked.get(chunk);
}

let index, found, searched = null, searches = 0, sorting = { key: "query", sign: 1 };
const filters = element("filters");
const LOOP = 1, CODE = 2;

const cell = (i) => index.cells[index.cell[i]];
const query = (i) => index.queries[index.query[i]];
const score = (i, metric) => (metric ? index.scores[metric][i] : index.scores.avg[i] ?? index.scores.safety[i]);

function matcher() {
  const [model, method, language, task, error, metric, low, high] =
    ["model", "method", "language", "task", "error", "metric", "low", "high"].map((name) => filters[name].value);
  const cells = index.cells.map((c) =>
    (!model || c.name === model) && (!method || c.method === method) && (!language || c.language === language));
  const queries = index.queries.map((q) => !task || q.task.includes(task));
  const wrong = {
    "": () => true,
    "any": (errors) => errors > 0,
    "none": (errors) => errors === 0,
    "infinite loop": (errors) => errors & LOOP,
    "unintended code": (errors) => errors & CODE,
  }[error];
  return (i) => {
    if (!cells[index.cell[i]] || !queries[index.query[i]] || !wrong(index.errors[i])) return false;
    if (searched && !searched.has(i)) return false;
    if (!metric && !low && !high) return true;
    const value = score(i, metric);
    return value !== null && (!low || value >= Number(low)) && (!high || value <= Number(high));
  };
}

// What a column sorts by, as numbers: names are compared once each, not once a response.
function ranks(names) {
  const places = new Map([...new Set(names)].sort(natural).map((name, place) => [name, place]));
  return names.map((name) => places.get(name));
}

function sortKey(key) {
  if (key === "query") {
    const places = ranks(index.queries.map((q) => q.id));
    return (i) => places[index.query[i]];
  }
  if (key === "score") {
    const metric = filters.metric.value;
    return (i) => score(i, metric);
  }
  if (key === "errors" || key === "length") return (i) => index[key][i];
  const places = ranks(index.cells.map((c) => c[key === "model" ? "name" : key]));
  return (i) => places[index.cell[i]];
}

function list() {
  const value = sortKey(sorting.key);
  found = index.order.filter(matcher());
  const keyed = found.map((i) => [value(i), i]);
  keyed.sort((a, b) => ordered(a[0], b[0], sorting.sign));
  found = keyed.map((pair) => pair[1]);
  element("count").textContent = `${found.length.toLocaleString("en")} of ${index.cell.length.toLocaleString("en")} responses`;
  element("rows").replaceChildren();
  element("list").scrollTop = 0;
  more();
}

function tags(errors) {
  const made = [];
  if (errors & LOOP) made.push(make("span", "loop", "tag loop"));
  if (errors & CODE) made.push(make("span", "code", "tag code"));
  return made;
}

function more() {
  const rows = element("rows");
  const metric = filters.metric.value;
  const next = found.slice(rows.childElementCount, rows.childElementCount + PAGE);
  rows.append(...next.map((i) => {
    const line = make("tr");
    line.tabIndex = 0;
    line.dataset.response = i;
    const errors = make("td");
    errors.append(...tags(index.errors[i]));
    line.append(
      make("td", query(i).id), make("td", cell(i).name), make("td", cell(i).method), make("td", cell(i).language),
      make("td", shown(score(i, metric)), "number"), errors, make("td", index.length[i], "number"), make("td", index.preview[i]),
    );
    return line;
  }));
}

// The search looks into answers chunk by chunk; a newer one, or a cleared field, ends an older one.
async function search() {
  const mine = ++searches;
  const wanted = filters.text.value.trim().toLowerCase();
  searched = null;
  if (wanted) {
    const hits = new Set();
    for (let chunk = 0; chunk < index.chunks.length; chunk++) {
      const part = await texts(chunk);
      if (mine !== searches) return;
      index.chunks[chunk].forEach((i, at) => {
        if (part[at].text.toLowerCase().includes(wanted)) hits.add(i);
      });
      element("count").textContent = `searching, ${Math.round((100 * (chunk + 1)) / index.chunks.length)} %`;
    }
    index.order.forEach((i) => {
      if (query(i).instruction.toLowerCase().includes(wanted)) hits.add(i);
    });
    searched = hits;
  }
  list();
}

// Lengths in the database count characters; a string here counts UTF-16 units.
function pieces(text, start, span) {
  const letters = Array.from(text);
  return [letters.slice(0, start), letters.slice(start, start + span), letters.slice(start + span)].map((l) => l.join(""));
}

async function answer(i, chosen) {
  const own = cell(i), box = make("article", null, i === chosen ? "answer chosen" : "answer");
  box.append(make("h4", `${own.name}, ${own.method}`));
  box.append(make("p", [own.quantization, own.language, index.finishes[index.finish[i]],
    `${index.length[i].toLocaleString("en")} characters`].join(" · "), "labels"));
  const scores = make("dl");
  index.metrics.forEach((metric) => {
    if (index.scores[metric][i] === null) return;
    const pair = make("div");
    pair.append(make("dt", metric), make("dd", shown(index.scores[metric][i])));
    scores.append(pair);
  });
  if (scores.childElementCount) box.append(scores);
  const errors = make("p");
  errors.append(...tags(index.errors[i]));
  if (index.errors[i]) box.append(errors);
  const text = make("pre");
  if (index.chunk[i] === null) {
    text.textContent = "left out of this page";
    box.append(text);
    return box;
  }
  const stored = (await texts(index.chunk[i]))[index.at[i]];
  if (stored.loop) {
    const [start, span, copies] = stored.loop;
    const [before, loop, after] = pieces(stored.text, start, span);
    const marked = make("mark", loop, "loop");
    const where = loop ? "show" : "after the closed answer, in the raw text";
    const jump = make("button", `repeated ${copies.toFixed(1)} times, ${where}`);
    jump.type = "button";
    jump.disabled = !loop;
    jump.addEventListener("click", () => marked.scrollIntoView({ block: "center" }));
    text.append(before, marked, after);
    errors.append(jump);
  } else {
    text.textContent = stored.text;
  }
  box.append(text);
  const reasons = Object.entries(stored.reasons || {});
  if (reasons.length) {
    const list = make("ul");
    reasons.forEach(([metric, reason]) => list.append(make("li", `${metric}: ${reason}`)));
    box.append(make("h4", "The judge's reasons"), list);
  }
  return box;
}

let opened = null;

async function open(i) {
  opened = i;
  const asked = query(i), own = cell(i);
  element("opened-title").textContent = `Query ${asked.id}`;
  element("opened-labels").textContent = [asked.dataset, asked.language, asked.split, asked.task.join(", "), asked.difficulty]
    .filter(Boolean).join(" · ");
  element("opened-query").textContent = asked.instruction;
  const beside = element("beside").value;
  const same = index.order.filter((k) => {
    if (query(k).id !== asked.id || query(k).dataset !== asked.dataset) return false;
    const other = cell(k);
    if (beside === "language") return other.name === own.name && other.method === own.method;
    if (index.query[k] !== index.query[i]) return false;
    if (beside === "method") return other.model === own.model;
    return beside === "all" || other.method === own.method;
  });
  const boxes = await Promise.all(same.map((k) => answer(k, i)));
  if (opened !== i) return;
  element("answers").replaceChildren(...boxes);
  if (!element("opened").open) element("opened").showModal();
  element("answers").scrollTo(element("answers").querySelector(".chosen").offsetLeft - element("answers").offsetLeft - 16, 0);
}

async function start() {
  index = await unpack(element("index"), `index/${load}`);
  const unique = (values) => [...new Set(values)].sort(natural);
  refill(filters.model, unique(index.cells.map((c) => c.name)), "all");
  refill(filters.method, [...new Set(index.cells.map((c) => c.method))], "all");
  refill(filters.language, [...new Set(index.cells.map((c) => c.language))], "all");
  refill(filters.task, unique(index.queries.flatMap((q) => q.task)), "all");
  refill(filters.error, ["any", "infinite loop", "unintended code", "none"], "all");
  refill(filters.metric, index.metrics, "avg or safety");
  index.order = index.cell.map((_, i) => i);
  let waiting;
  const changed = (event) => {
    const typed = event.target.name === "text";
    clearTimeout(waiting);
    waiting = setTimeout(typed ? search : list, typed ? 250 : 0);
  };
  filters.addEventListener("input", changed);
  filters.addEventListener("change", changed);
  filters.addEventListener("reset", () => setTimeout(search, 0));
  filters.addEventListener("submit", (event) => event.preventDefault());
  element("list").querySelectorAll("th button").forEach((button) => button.addEventListener("click", () => {
    const header = button.parentNode;
    sorting = { key: button.dataset.sort, sign: turn(header, header.classList.contains("number")) };
    list();
  }));
  const openRow = (event) => {
    const line = event.target.closest("tr[data-response]");
    if (line) open(Number(line.dataset.response));
  };
  element("rows").addEventListener("click", openRow);
  element("rows").addEventListener("keydown", (event) => {
    if (event.key === "Enter") openRow(event);
  });
  element("beside").addEventListener("change", () => open(opened));
  element("close").addEventListener("click", () => element("opened").close());
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) more();
  }, { root: element("list"), rootMargin: "400px" }).observe(element("more"));
  list();
}

if (typeof DecompressionStream === "undefined") {
  element("count").textContent = "This browser is too old to unpack the responses; the tables above are complete.";
} else {
  start();
}
