// The tokens of a scored answer, coloured by class; the scoring model's own choice appears on hover.
async function ask(address) {
  const reply = await fetch(address), found = await reply.json();
  if (!reply.ok) throw new Error(found.error);
  return found;
}

const visible = (text) => text.replaceAll("\n", "⏎\n");

function tokenOf([text, kind, rank, probability, top]) {
  const made = make("span", visible(text ?? "\ufffd"), kind);
  const own = rank > 1 ? `; the model's own choice: ${JSON.stringify(top)}` : "";
  made.title = `rank ${rank}, probability ${probability.toPrecision(2)}${own}`;
  return made;
}

async function showTokens() {
  try {
    const found = await ask(`tokens/${element("scored").value}`);
    element("scored-tokens").replaceChildren(...found.map(tokenOf));
  } catch (error) {
    element("scored-tokens").textContent = error.message;
  }
}

async function showScored() {
  const found = await ask("scored");
  found.forEach(([id, label]) => option(element("scored"), id, label));
  element("shift").hidden = found.length === 0;
  element("scored").addEventListener("change", showTokens);
  if (found.length) await showTokens();
}

showScored();
