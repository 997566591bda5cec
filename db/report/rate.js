// Rating: one answer at a time, by keys. What was saved is on the server's disk before the page says so.
const SHOWN = 100000; // characters of an answer; a longer one is shown whole on request

let item = null, given = {}, comments = {}, at = 0, busy = false, seconds = 0, since = null;
const drafts = new Map(); // what was entered and not saved, by item

async function ask(address, posted) {
  const sent = posted === undefined ? {} : { method: "POST", body: JSON.stringify(posted) };
  let reply;
  try {
    reply = await fetch(address, sent);
  } catch {
    throw new Error("the program behind this page has ended; start icl browse again, nothing saved is lost");
  }
  const found = await reply.json();
  if (!reply.ok) throw new Error(found.error);
  return found;
}

function say(text, wrong) {
  element("status").textContent = text;
  element("status").className = wrong ? "wrong" : "";
}

// The time on an answer is the time it is in view.
function clock() {
  if (since !== null) seconds += (performance.now() - since) / 1000;
  since = document.hidden ? null : performance.now();
}
document.addEventListener("visibilitychange", clock);

function count(found) {
  const skipped = found.skipped ? `, ${found.skipped} skipped` : "";
  element("progress").textContent = `${found.rated} of ${found.items} rated${skipped}`;
}

const groups = () => [...element("aspects").children];

function mark(metric, value) {
  given[metric] = value;
  groups().find((group) => group.dataset.metric === metric).querySelectorAll("button").forEach((button, place) => {
    button.setAttribute("aria-pressed", item.marks[place] === value);
    button.tabIndex = item.marks[place] === (value ?? 1) ? 0 : -1;
  });
  element("save").disabled = item.aspects.some((aspect) => given[aspect.metric] === undefined);
}

function choose(place) {
  at = Math.max(0, Math.min(place, item.aspects.length - 1));
  groups().forEach((group, other) => group.classList.toggle("chosen", other === at));
  element("rubric").firstElementChild.textContent = item.aspects[at].line;
}

function focus(place) {
  choose(place);
  groups()[at].querySelector("button[tabindex='0']").focus({ preventScroll: true });
}

function score(value) {
  if (!item.marks.includes(value)) return;
  mark(item.aspects[at].metric, value);
  say("");
  focus(at + 1);
}

function aspectGroup(aspect, place) {
  const group = make("div", null, "aspect"), title = make("span", aspect.title), marks = make("div", null, "marks");
  const comment = make("input");
  group.dataset.metric = aspect.metric;
  group.setAttribute("role", "group");
  group.setAttribute("aria-labelledby", `aspect-${place}`);
  title.id = `aspect-${place}`;
  item.marks.forEach((value, order) => {
    const button = make("button", value);
    button.type = "button";
    button.title = item.scale[order] ?? "not applicable";
    button.addEventListener("click", () => { choose(place); score(value); });
    marks.append(button);
  });
  comment.type = "text";
  comment.maxLength = 2000;
  comment.placeholder = "comment";
  comment.setAttribute("aria-label", `Comment on ${aspect.title}`);
  comment.value = comments[aspect.metric] ?? "";
  comment.hidden = !comment.value;
  comment.addEventListener("input", () => { comments[aspect.metric] = comment.value; });
  comment.addEventListener("blur", () => { comment.hidden = !comment.value; });
  group.addEventListener("focusin", () => choose(place));
  group.append(title, marks, comment);
  return group;
}

function read(text, whole) {
  const letters = text.length > SHOWN && !whole ? text.slice(0, SHOWN) : text;
  element("said").textContent = letters;
  element("whole").hidden = letters.length === text.length;
  element("whole").textContent = `Show all ${text.length.toLocaleString("en")} characters`;
}

const changed = () => JSON.stringify([given, comments]) !== JSON.stringify([item.scores, item.comments]);

async function show(number) {
  if (item && changed()) drafts.set(item.id, [given, comments]);
  item = await ask(`item/${number}`);
  [given, comments] = drafts.get(item.id) ?? [{ ...item.scores }, { ...item.comments }];
  element("asked").textContent = item.query;
  read(item.answer, false);
  element("aspects").replaceChildren(...item.aspects.map(aspectGroup));
  const scale = element("rubric").lastElementChild;
  scale.start = item.marks[0];
  scale.replaceChildren(...item.scale.map((line) => make("li", line)));
  scale.className = item.scale.every((line) => line.length < 24) ? "short" : "";
  item.aspects.forEach((aspect) => mark(aspect.metric, given[aspect.metric]));
  scrollTo(0, 0);
  focus(0);
  [seconds, since] = [0, null];
  clock();
}

// One thing at a time: a key pressed while the last one is still being saved does nothing.
async function act(work, failed) {
  if (busy) return;
  busy = true;
  try {
    await work();
  } catch (error) {
    say(failed + error.message, true);
  }
  busy = false;
}

function forget() {
  drafts.delete(item.id);
  [given, comments] = [item.scores, item.comments];
}

// After a save or a skip: the next answer.
async function go(found, told) {
  count(found);
  forget();
  try {
    await show(found.next ?? item.number);
    say(found.next === null ? `${told}. All ${found.items} answers are rated; thank you.` : told);
  } catch (error) {
    say(`${told}, but ${error.message}`, true);
  }
}

const save = () => act(async () => {
  const missing = item.aspects.find((aspect) => given[aspect.metric] === undefined);
  if (missing) {
    focus(item.aspects.indexOf(missing));
    return say(`${missing.title} has no score yet`, true);
  }
  clock();
  return go(await ask("save", { id: item.id, scores: given, comments, seconds }), "Saved");
}, "Not saved: ");

const skip = () => act(async () => {
  clock();
  return go(await ask("skip", { id: item.id, seconds }), "Skipped");
}, "Not skipped: ");

const undo = () => act(async () => {
  const found = await ask("undo", null);
  count(found);
  if (found.number === item.number) forget();
  await show(found.number);
  say("Undone");
}, "");

const move = (step) => act(async () => {
  const number = item.number + step;
  if (number < 0 || number >= total) return say(step < 0 ? "This is the first answer" : "This is the last answer");
  say("");
  return show(number);
}, "");

function comment() {
  const input = groups()[at].querySelector("input");
  input.hidden = false;
  input.focus();
}

const KEYS = {
  ...Object.fromEntries([1, 2, 3, 4, 5].map((value) => [value, () => score(value)])),
  "0": () => score(item.marks.includes(0) ? 0 : "N/A"), "ArrowUp": () => focus(at - 1), "ArrowDown": () => focus(at + 1),
  "ArrowLeft": () => move(-1), "ArrowRight": () => move(1), "Enter": save, "s": skip, "u": undo, "c": comment,
  "?": () => element("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || element("help").open || !item) return;
  if (event.target.tagName === "INPUT") {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    focus(at);
    return;
  }
  if (!(event.key in KEYS) || (event.key === "Enter" && event.target.closest(".actions, .bar, #whole"))) return;
  event.preventDefault();
  KEYS[event.key]();
});
element("verdict").addEventListener("submit", (event) => { event.preventDefault(); save(); });
element("skip").addEventListener("click", skip);
element("undo").addEventListener("click", undo);
element("comment").addEventListener("click", comment);
element("back").addEventListener("click", () => move(-1));
element("forward").addEventListener("click", () => move(1));
element("keys").addEventListener("click", () => element("help").showModal());
element("helped").addEventListener("click", () => element("help").close());
element("help").addEventListener("close", () => focus(at));
element("whole").addEventListener("click", () => { read(item.answer, true); focus(at); });

let total = 0;
act(async () => {
  const found = await ask("progress");
  total = found.items;
  count(found);
  await show(found.next ?? 0);
  if (found.next === null) say("All answers are rated");
}, "");
