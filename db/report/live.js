// The run as it goes on: the page asks again every few seconds while it is in view.
const EVERY = 4000;

function latestAnswer(one) {
  const box = make("article", null, "answer"), text = make("pre", one.text);
  text.tabIndex = 0; // it scrolls, by keys too
  box.append(
    make("h3", `${one.model}, ${one.method}`),
    make("p", [new Date(one.at).toLocaleTimeString("en-GB"), one.quantization, one.language, `query ${one.query_id}`, one.finish_reason,
      one.new_tokens && `${one.new_tokens} tokens`].filter(Boolean).join(" · "), "labels"),
    make("p", one.instruction, "asked"), text,
  );
  return box;
}

function drawCells(found) {
  const table = element("live-cells"), head = make("tr"), numeric = found.columns.map((_, at) =>
    found.cells.length > 0 && found.cells.every((row) => row[at] === null || typeof row[at] === "number"));
  found.columns.forEach((name, at) => {
    const header = make("th", name, numeric[at] ? "number" : "");
    header.scope = "col";
    head.append(header);
  });
  const wanted = found.columns.indexOf("wanted"); // done stands before it
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...found.cells.map((row) => {
    const line = make("tr");
    row.forEach((value, at) => {
      const box = make("td", value?.toLocaleString("en"), numeric[at] ? "number" : "");
      if (at === wanted) {
        const bar = make("progress");
        bar.setAttribute("aria-label", "done");
        [bar.max, bar.value] = [value, row[wanted - 1]];
        box.append(bar);
      }
      line.append(box);
    });
    return line;
  }));
}

let newest = "";

function drawLive(found) {
  const [done, wanted] = ["done", "wanted"].map((name) => {
    const at = found.columns.indexOf(name);
    return found.cells.reduce((sum, row) => sum + row[at], 0);
  });
  const stored = Number(document.body.dataset.stored), more = done - stored, news = element("news");
  news.textContent = `${done.toLocaleString("en")} of ${wanted.toLocaleString("en")} answers. `;
  if (more > 0) {
    const again = make("button", `Load ${more.toLocaleString("en")} new answers into the tables`);
    again.type = "button";
    again.addEventListener("click", () => location.reload());
    news.append(again);
  }
  drawCells(found);
  const ids = found.latest.map((one) => one.response_id).join();
  if (ids !== newest) element("latest").replaceChildren(...found.latest.map(latestAnswer));
  newest = ids;
}

async function follow() {
  if (!document.hidden) {
    try {
      const reply = await fetch("live"), found = await reply.json();
      if (!reply.ok) throw new Error(found.error);
      drawLive(found);
    } catch (error) {
      element("news").textContent = `No news: ${error.message}`;
    }
  }
  setTimeout(follow, EVERY);
}

follow();
