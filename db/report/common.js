"use strict";
// Everything that comes from the database reaches the page as text nodes only.

const element = (id) => document.getElementById(id);

function make(name, text, classes) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (classes) made.className = classes;
  return made;
}

function option(select, value, text) {
  const made = make("option", text);
  made.value = value;
  select.append(made);
}

function refill(select, values, everything) {
  select.replaceChildren();
  if (everything) option(select, "", everything);
  values.forEach((value) => option(select, value, value));
}
