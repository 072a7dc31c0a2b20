// The page: what the program says, the side panel, keys.

import {ask} from "./api.js";
import {Gallery} from "./gallery.js";
import {parse} from "./tint.js";
import {Viewer} from "./viewer.js";

const $ = (id) => document.getElementById(id);

const state = {
  pictures: [], items: [], window: 256, classes: [], chosen: 0, against: false, tool: "mask",
  level: 1, radius: 6, threshold: 0.5, found: true, marks: true, changes: false, space: false,
  revision: 0, results: null, status: null, order: "presence", objects: {}, marked: {},
};

const app = {
  state,
  look: () => {
    const {threshold, found, marks, changes} = state;
    const colours = Object.fromEntries(state.classes.map((c) => [c.number, parse(c.colour)]));
    const stamp = JSON.stringify([threshold, found, marks, changes, colours]);
    return {threshold, found, marks, changes, colours, stamp};
  },
  version: (picture) => `${state.results ? state.results.versions[picture] : 0}.${state.revision}`,
  colour: () => parse(chosenClass()?.colour || "#ff40a0"),
  describe, fail, needClass, onMarked, open: openItem,
  resize: (by) => setSize((state.tool === "mask" ? state.level : state.radius) + by * (state.tool === "mask" ? 1 : Math.max(1, state.radius / 6))),
};

const viewer = new Viewer($("canvas"), app);
const gallery = new Gallery($("gallery"), app);

function chosenClass() {
  return state.classes.find((c) => c.number === state.chosen);
}

// ---- what the program says

async function start() {
  const opened = await ask("api/open");
  Object.assign(state, {pictures: opened.pictures, items: opened.items, window: opened.window});
  state.level = opened.level;
  setTool("mask");
  state.partly = opened.pictures.map(() => 0);
  opened.items.forEach(([picture]) => state.partly[picture]++);
  $("folder").textContent = opened.folder.split(/[\\/]/).pop();
  $("folder").title = opened.folder;
  document.title = `${$("folder").textContent} – mgcl page`;
  $("help-facts").textContent = `Pictures: ${opened.folder}. Kept in: ${opened.project}. Network: ${opened.network}. `
    + "Nothing leaves this machine: the page answers at 127.0.0.1 alone.";
  $("export-command").textContent = `python -m mgcl.predict --supports ${quoted(opened.project + "/project.toml")} --query OTHER_FOLDER --to RESULTS`;
  gallery.setOrder(state.items.map((_, i) => i));
  await look();
  if (state.classes.length) {
    state.chosen = state.classes[0].number;
    showClasses();
  }
  if (state.items.length) {
    openItem(Number(sessionStorage.item) < state.items.length ? Number(sessionStorage.item || 0) : 0);
  }
  state.opened = opened.project;
  for (;;) {
    await sleep(state.status && (state.status.searching || state.exporting) ? 250 : 700);
    await look();
  }
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const quoted = (path) => /^[\w./-]+$/.test(path) ? path : `'${path}'`;

async function look() {
  let said;
  try {
    said = await ask("api/state");
  } catch {
    banner("The program has ended. Start it again: everything that was marked is kept.");
    state.lost = true;
    await sleep(1000);
    return;
  }
  if (state.lost) {
    location.reload();
  }
  state.status = said;
  state.marked = said.marked;
  state.classes = said.classes.map(([number, name, colour, is, isNot]) => ({number, name, colour, is, isNot}));
  if (!document.activeElement || document.activeElement.id !== "threshold") {
    setThreshold(said.threshold, false);
  }
  const stamp = JSON.stringify([said.classes, said.revision]);
  if (stamp !== state.stamp) {
    state.stamp = stamp;
    state.revision = said.revision;
    if (!chosenClass() && state.classes.length) {
      state.chosen = state.classes[0].number;
    }
    showClasses();
    redraw();
  }
  const seen = `${said.changes} ${said.searching} ${state.chosen}`;
  if (seen !== state.seen) {
    state.seen = seen;
    await lookAtResults();
  }
  showStatus(said);
  showExport(said.export);
}

async function lookAtResults() {
  state.results = await ask(`api/results?number=${state.chosen}`);
  sort();
  showTotals();
  redraw();
  if (!state.status.searching) {
    countObjects();
  }
}

function sort() {
  const {order, scores, changes} = state.results;
  const by = {
    presence: () => state.status.searching && state.sorted ? state.sorted : order,
    name: () => order.map((_, i) => i),
    change: () => [...order].sort((a, b) => changes[b][0] + changes[b][1] - changes[a][0] - changes[a][1]),
    doubt: () => [...order].sort((a, b) => Math.abs(scores[a] - state.threshold) - Math.abs(scores[b] - state.threshold)),
  };
  const found = by[state.order]();
  state.sorted = state.status.searching && state.sorted ? state.sorted : order;
  if (String(found) !== String(gallery.order)) {
    gallery.setOrder(found);
  }
}

function redraw() {
  viewer.draw();
  gallery.draw();
  tellWhere();
}

let telling = 0;
function tellWhere() {
  clearTimeout(telling);
  telling = setTimeout(() => {
    const words = JSON.stringify({items: gallery.visible.slice(0, 200), picture: viewer.picture});
    if (words !== state.told) {
      state.told = words;
      ask("api/looking", JSON.parse(words)).catch(() => {});
    }
  }, 80);
}

let counting = 0;
function countObjects() {
  clearTimeout(counting);
  counting = setTimeout(async () => {
    const {objects} = await ask(`api/objects?threshold=${state.threshold}`);
    if (objects) {
      state.objects = objects;
      showTotals();
    }
  }, 150);
}

// ---- words

function showStatus(said) {
  const words = [];
  const {encoded, pictures, searched} = said;
  if (encoded < pictures) {
    words.push(said.searching ? `read ${encoded} of ${pictures}` : `reading: ${Math.floor(100 * said.share)} %`);
  }
  if (said.searching) {
    words.push(encoded ? `searching: ${Math.floor(100 * said.share)} %` : "cutting what is marked");
  } else if (said.whole) {
    words.push(`searched in ${said.whole.toFixed(1)} s`);
  }
  if (!pictures) {
    words.push("no picture in this folder");
  }
  set($("status"), words.join(" · ") || `${pictures} picture${pictures === 1 ? "" : "s"}`);
  $("progress").hidden = encoded >= pictures && !said.searching;
  $("progress").value = said.share;
  $("undo").disabled = !said.undo;
  $("redo").disabled = !said.redo;
  $("hint").textContent = !pictures ? "There is no picture in this folder (png, jpg, tif, jp2, …)."
    : !state.classes.length ? "Click an object: the mask under the cursor is marked, and its like is searched everywhere."
      : !Object.keys(said.marked).length ? `Click a ${chosenClass()?.name}.` : "";
  const notes = [...said.said, ...Object.entries(said.problems).map(([key, why]) => why.includes(key) ? why : `${key}: ${why}`)];
  $("notes").hidden = !notes.length;
  if (String(notes) !== state.notes) {
    state.notes = String(notes);
    $("said").replaceChildren(...notes.slice(0, 50).map((words) => element("li", words)));
    if (notes.length > 50) {
      $("said").append(element("li", `and ${notes.length - 50} more`));
    }
  }
}

function set(place, text) {
  if (place.textContent !== text) {
    place.textContent = text;
  }
}

function element(name, text, how = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  Object.entries(how).forEach(([key, value]) => made.setAttribute(key, value));
  return made;
}

function banner(text) {
  $("banner").textContent = text;
  $("banner").hidden = !text;
}

function toast(text, kind = "") {
  const made = element("p", text, {class: kind});
  $("toasts").append(made);
  setTimeout(() => made.remove(), kind ? 7000 : 3500);
}

function fail(error) {
  toast(error.message || String(error), "error");
}

function describe(item) {
  const [picture, y, x] = state.items[item];
  const key = state.pictures[picture][0];
  const parts = state.items.length > state.pictures.length && state.partly[picture] > 1;
  const name = parts ? `${key} at ${x}, ${y}` : key;
  const score = state.results ? state.results.scores[item] : -1;
  const [gained, lost] = state.results ? state.results.changes[item] : [0, 0];
  const marks = state.marked[picture] || [];
  const badge = (marks.length && !parts ? "●" : "") + (gained || lost ? (gained >= lost ? " ▲" : " ▼") : "");
  const spoken = [
    score < 0 ? "not searched yet" : `${chosenClass()?.name || "score"} ${score.toFixed(2)}`,
    marks.length && !parts ? "marked" : "", gained || lost ? "changed" : "",
  ].filter(Boolean).join(", ");
  const short = parts ? `${x}, ${y}` : key.split("/").pop();
  return {
    name, spoken, badge, text: score < 0 ? short : `${score.toFixed(2)}  ${short}`,
    none: score >= 0 && score <= state.threshold,
  };
}

// ---- classes

function showClasses() {
  const focused = document.activeElement?.dataset?.rename;
  if (focused) {
    return;
  }
  $("classes").replaceChildren(...state.classes.map((c, i) => {
    const row = element("li", "");
    row.className = c.number === state.chosen ? "chosen" : "";
    const colour = element("input", "", {type: "color", value: c.colour, "aria-label": `colour of ${c.name}`});
    colour.addEventListener("change", () => editClass({number: c.number, colour: colour.value}));
    const choose = element("button", c.name, {
      class: "name", "aria-pressed": c.number === state.chosen, title: i < 9 ? `key ${i + 1}; double click: another name` : "",
    });
    choose.addEventListener("click", () => chooseClass(c.number));
    choose.addEventListener("dblclick", () => rename(c, choose));
    const counts = element("span", `${c.is}${c.isNot ? ` / ${c.isNot} not` : ""}`, {
      class: "count", title: `marked in ${c.is} picture${c.is === 1 ? "" : "s"}, "is not" in ${c.isNot}`,
    });
    const edit = element("button", "✎", {class: "small", "aria-label": `rename ${c.name}`, title: "another name"});
    edit.addEventListener("click", () => rename(c, choose));
    const remove = element("button", "×", {class: "small", "aria-label": `remove ${c.name}`, title: "take away with its marks"});
    remove.addEventListener("click", () => editClass({number: c.number, remove: true}, `${c.name} is taken away; Ctrl+Z brings it back`));
    row.append(colour, choose, counts, edit, remove);
    return row;
  }));
}

function chooseClass(number) {
  state.chosen = number;
  state.sorted = null;
  setAgainst(false);
  showClasses();
  if (state.results) {
    lookAtResults().catch(() => {});
  }
}

function rename(c, button) {
  const field = element("input", "", {"aria-label": `new name of ${c.name}`, "data-rename": c.number, maxlength: 60});
  field.value = c.name;
  button.replaceWith(field);
  field.select();
  let done = false;
  const end = (save) => {
    if (!done) {
      done = true;
      field.removeAttribute("data-rename");
      field.blur();
      save && field.value.trim() !== c.name ? editClass({number: c.number, name: field.value}) : showClasses();
    }
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      end(event.key === "Enter");
    }
  });
  field.addEventListener("blur", () => end(true));
}

async function editClass(words, said) {
  try {
    const {number} = await ask("api/classes", words);
    if (said) {
      toast(said);
    }
    await look();
    return number;
  } catch (error) {
    fail(error);
    showClasses();
    return 0;
  }
}

// A click without a class makes one, to be named later.
async function needClass() {
  if (!chosenClass()) {
    const number = await editClass({name: "object"});
    state.chosen = number;
    showClasses();
    toast("a class “object” was made: ✎ gives it a name");
  }
  return state.chosen;
}

// ---- marking and looking

function onMarked(picture, changed) {
  if (!changed) {
    toast("no mask here: a larger one ( ] ), or the brush (B)");
    return;
  }
  state.revision += 0.5; // until the program says
  state.sorted = null;
  redraw();
  look();
}

async function again(path) {
  try {
    const {changed, pictures} = await ask(path, {});
    if (changed && pictures.length && !pictures.includes(viewer.picture)) {
      openItem(state.items.findIndex(([picture]) => picture === pictures[0]));
    }
    await look();
  } catch (error) {
    fail(error);
  }
}

function openItem(item) {
  if (item === undefined || !state.items[item]) {
    return;
  }
  const [picture, ...rectangle] = state.items[item];
  sessionStorage.item = item;
  viewer.open(picture, state.partly[picture] > 1 ? rectangle : null);
  $("name").textContent = describe(item).name;
  gallery.choose(item, true);
  tellWhere();
}

function setThreshold(threshold, tell = true) {
  if (threshold === state.threshold && tell) {
    return;
  }
  const moved = threshold !== state.threshold;
  state.threshold = threshold;
  $("threshold").value = Math.round(100 * threshold);
  $("threshold-text").textContent = threshold.toFixed(2);
  if (moved) {
    showTotals();
    redraw();
  }
  if (tell) {
    clearTimeout(setThreshold.due);
    setThreshold.due = setTimeout(() => ask("api/looking", {items: gallery.visible.slice(0, 200), picture: viewer.picture, threshold})
      .then(countObjects).catch(fail), 200);
  }
}

function showTotals() {
  const {results, threshold, objects} = state;
  if (!results || !results.numbers.length) {
    $("totals").replaceChildren();
    return;
  }
  const over = Math.floor(255 * threshold) + 1;
  const head = element("tr", "");
  const shown = state.items.length > state.pictures.length ? "parts" : "pictures";
  head.append(...["", shown, "objects", "pixels"].map((words) => element("th", words, {scope: "col"})));
  const rows = results.numbers.map((number, i) => {
    const c = state.classes.find((one) => one.number === number), row = element("tr", "");
    const cells = [results.images[i][over], objects[number] ?? "…", results.pixels[i][over]];
    row.append(element("th", c ? c.name : "", {scope: "row"}),
      ...cells.map((value) => element("td", value === "…" ? value : short(value))));
    return row;
  });
  $("totals").replaceChildren(head, ...rows);
}

function short(n) {
  return n >= 1e6 ? `${(n / 1e6).toFixed(2)} M` : n >= 1e4 ? `${(n / 1e3).toFixed(0)} k` : String(n ?? 0);
}

function setTool(tool) {
  state.tool = tool;
  document.querySelectorAll("[data-tool]").forEach((b) => b.setAttribute("aria-checked", b.dataset.tool === tool));
  const mask = tool === "mask";
  Object.assign($("size"), mask ? {min: 0, max: 3, step: 1} : {min: 1, max: 80, step: 1});
  setSize(mask ? state.level : state.radius);
}

function setSize(value) {
  const mask = state.tool === "mask";
  const size = Math.round(Math.max(mask ? 0 : 1, Math.min(mask ? 3 : 80, value)));
  state[mask ? "level" : "radius"] = size;
  $("size").value = size;
  $("size-label").textContent = mask ? `Mask: ${["finest", "fine", "medium", "large"][size]}` : `Radius: ${size} px`;
  viewer.draw();
}

function setAgainst(against) {
  state.against = against;
  $("is").setAttribute("aria-checked", !against);
  $("is-not").setAttribute("aria-checked", against);
  viewer.draw();
}

function toggle(id) {
  $(id).checked = !$(id).checked;
  $(id).dispatchEvent(new Event("change"));
}

// ---- export

function showExport({running, done, words, folder}) {
  state.exporting = running;
  $("export-progress").hidden = !running;
  $("export-progress").max = state.pictures.length;
  $("export-progress").value = done;
  $("export-begin").disabled = running;
  const said = running ? `writing ${done} of ${state.pictures.length}`
    : [folder ? `Written: ${folder}` : "", ...words.slice(0, 5)].filter(Boolean).join("\n");
  set($("export-words"), said);
}

// ---- hands

$("new-class").addEventListener("submit", async (event) => {
  event.preventDefault();
  const number = await editClass({name: $("new-name").value});
  if (number) {
    $("new-name").value = "";
    chooseClass(number);
    $("canvas").focus();
  }
});
document.querySelectorAll("[data-tool]").forEach((b) => b.addEventListener("click", () => setTool(b.dataset.tool)));
$("is").addEventListener("click", () => setAgainst(false));
$("is-not").addEventListener("click", () => setAgainst(true));
$("size").addEventListener("input", () => setSize(Number($("size").value)));
$("threshold").addEventListener("input", () => setThreshold(Number($("threshold").value) / 100));
for (const [id, key] of [["show-found", "found"], ["show-marks", "marks"], ["show-changes", "changes"]]) {
  $(id).addEventListener("change", () => {
    state[key] = $(id).checked;
    redraw();
  });
}
$("order").addEventListener("change", () => {
  state.order = $("order").value;
  state.results && sort();
});
$("undo").addEventListener("click", () => again("api/undo"));
$("redo").addEventListener("click", () => again("api/redo"));
$("previous").addEventListener("click", () => openItem(gallery.beside(-1)));
$("next").addEventListener("click", () => openItem(gallery.beside(1)));
$("zoom-in").addEventListener("click", () => viewer.zoom(1.4));
$("zoom-out").addEventListener("click", () => viewer.zoom(1 / 1.4));
$("fit").addEventListener("click", () => viewer.fit());
$("help-button").addEventListener("click", () => $("help").showModal());
$("export").addEventListener("click", () => $("export-dialog").showModal());
$("export-begin").addEventListener("click", () => ask("api/export", {}).then(look).catch(fail));

const keys = {
  "?": () => $("help").showModal(),
  "[": () => app.resize(-1), "]": () => app.resize(1),
  "+": () => viewer.zoom(1.3), "=": () => viewer.zoom(1.3), "-": () => viewer.zoom(1 / 1.3), 0: () => viewer.fit(),
  x: () => setAgainst(!state.against), m: () => setTool("mask"), b: () => setTool("brush"), e: () => setTool("eraser"),
  f: () => toggle("show-found"), h: () => toggle("show-marks"), c: () => toggle("show-changes"),
  n: () => $("new-name").focus(), t: () => $("threshold").focus(),
  ",": () => openItem(gallery.beside(-1)), ".": () => openItem(gallery.beside(1)),
};
const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

document.addEventListener("keydown", (event) => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== "checkbox";
  if (document.querySelector("dialog[open]")) {
    return;
  }
  if (event.key === "Escape") {
    $("canvas").focus();
    return;
  }
  const command = event.ctrlKey || event.metaKey, key = event.key.toLowerCase();
  if (command && (key === "z" || key === "y") && event.target.type !== "text") {
    event.preventDefault();
    again(key === "y" || event.shiftKey ? "api/redo" : "api/undo");
    return;
  }
  if (typing || command || event.altKey) {
    return;
  }
  const onCanvas = event.target === $("canvas") || event.target === document.body;
  if (event.key === " " && onCanvas) {
    state.space = true;
    event.preventDefault();
  } else if (arrows[event.key] && onCanvas && viewer.picture !== null) {
    event.preventDefault();
    viewer.step(...arrows[event.key], event.shiftKey);
  } else if (event.key === "Enter" && onCanvas) {
    viewer.mark(state.against);
  } else if (/^[1-9]$/.test(event.key)) {
    const c = state.classes[Number(event.key) - 1];
    c && chooseClass(c.number);
  } else if (keys[key]) {
    event.preventDefault();
    keys[key]();
  }
});
document.addEventListener("keyup", (event) => {
  if (event.key === " ") {
    state.space = false;
  }
});

setTool("mask");
window.page = {state, viewer, gallery, open: openItem}; // for tests
start().catch((error) => banner(error.message));
