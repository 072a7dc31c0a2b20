// The picture: tiles with zoom and pan, what is found and marked over it, marking by mouse and keys.

import {ask, askPlanes, Recent} from "./api.js";
import {canvasOf, tint} from "./tint.js";

const TILE = 256;

export class Viewer {
  // `app`: {state, look(), value(against), onMarked(), fail(error)}
  constructor(canvas, app) {
    this.canvas = canvas;
    this.app = app;
    this.picture = null; // number
    this.scale = 1; // screen pixels (of CSS) a pixel of the picture
    this.x = 0; // of the picture at the canvas's left upper corner
    this.y = 0;
    this.images = new Recent(600);
    this.planes = new Recent(400);
    this.masks = new Recent(200);
    this.waiting = new Set();
    this.cursor = null; // {x, y} in the picture
    this.crosshair = false;
    this.stroke = null;
    this.pointers = new Map();
    this.dirty = false;
    new ResizeObserver(() => this.resize()).observe(canvas.parentElement);
    this.listen();
  }

  get facts() {
    const [key, height, width, levels, stamp] = this.app.state.pictures[this.picture];
    return {key, height, width, levels, stamp};
  }

  resize() {
    const {clientWidth, clientHeight} = this.canvas.parentElement;
    const ratio = window.devicePixelRatio || 1;
    const centre = this.centre();
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.width = clientWidth;
    this.height = clientHeight;
    if (this.picture !== null) {
      this.fitted ? this.fit() : this.centreOn(centre.x, centre.y);
    }
    this.draw();
  }

  centre() {
    return {x: this.x + this.width / 2 / this.scale, y: this.y + this.height / 2 / this.scale};
  }

  centreOn(x, y) {
    this.x = x - this.width / 2 / this.scale;
    this.y = y - this.height / 2 / this.scale;
    this.draw();
  }

  open(picture, rectangle) {
    const other = picture !== this.picture;
    this.picture = picture;
    if (other) {
      this.cursor = null;
      this.crosshair = false;
    }
    if (rectangle) {
      this.show(...rectangle);
    } else if (other) {
      this.fit();
    }
    this.draw();
  }

  fit() {
    const {height, width} = this.facts;
    this.show(0, 0, height, width);
    this.fitted = true;
  }

  show(y, x, height, width) {
    this.scale = Math.min(16, 0.96 * Math.min(this.width / width, this.height / height));
    this.fitted = false;
    this.centreOn(x + width / 2, y + height / 2);
  }

  zoom(factor, at) {
    const least = 0.5 * Math.min(this.width / this.facts.width, this.height / this.facts.height, 1);
    const scale = Math.max(least, Math.min(32, this.scale * factor));
    const place = at || {x: this.width / 2, y: this.height / 2};
    this.x += place.x / this.scale - place.x / scale;
    this.y += place.y / this.scale - place.y / scale;
    this.scale = scale;
    this.fitted = false;
    this.draw();
  }

  // ---- drawing

  draw() {
    if (!this.dirty) {
      this.dirty = true;
      requestAnimationFrame(() => {
        this.dirty = false;
        this.paint();
      });
    }
  }

  paint() {
    const context = this.canvas.getContext("2d");
    const ratio = this.canvas.width / Math.max(1, this.width);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.picture === null) {
      return;
    }
    const s = this.scale * ratio;
    context.setTransform(s, 0, 0, s, -this.x * s, -this.y * s);
    const level = Math.max(0, Math.min(this.facts.levels - 1, Math.floor(-Math.log2(s) + 0.01)));
    this.shown = this.tilesOf(level);
    context.imageSmoothingEnabled = s < 3;
    for (const tile of this.shown) {
      this.paintImage(context, tile);
    }
    context.imageSmoothingEnabled = false;
    for (const tile of this.shown) {
      this.paintFound(context, tile);
    }
    this.paintHover(context);
    this.paintStroke(context, s);
    this.paintCrosshair(context, s);
  }

  tilesOf(z) {
    const {height, width} = this.facts;
    const side = TILE << z, found = [];
    const right = Math.min(width, this.x + this.width / this.scale);
    const bottom = Math.min(height, this.y + this.height / this.scale);
    for (let row = Math.max(0, Math.floor(this.y / side)); row * side < bottom; row++) {
      for (let column = Math.max(0, Math.floor(this.x / side)); column * side < right; column++) {
        found.push({z, row, column, x: column * side, y: row * side, step: 1 << z});
      }
    }
    return found;
  }

  paintImage(context, tile) {
    const {height, width, stamp} = this.facts;
    const image = this.image(tile, stamp);
    if (image) {
      context.drawImage(image, tile.x, tile.y, Math.min(image.width * tile.step, width - tile.x),
        Math.min(image.height * tile.step, height - tile.y));
      return;
    }
    for (let up = 1; tile.z + up < this.facts.levels; up++) { // a coarser one, meanwhile
      const z = tile.z + up, row = tile.row >> up, column = tile.column >> up;
      const found = this.images.get(`${this.picture}/${z}/${row}/${column}`);
      if (found && found.complete) {
        const part = TILE >> up;
        const left = (tile.column - (column << up)) * part, top = (tile.row - (row << up)) * part;
        const w = Math.min(part, found.width - left), h = Math.min(part, found.height - top);
        if (w > 0 && h > 0) {
          context.drawImage(found, left, top, w, h, tile.x, tile.y, w << z, h << z);
        }
        return;
      }
    }
  }

  image({z, row, column}, stamp) {
    const key = `${this.picture}/${z}/${row}/${column}`;
    let found = this.images.get(key);
    if (!found) {
      found = new Image();
      found.src = `api/pictures/${key}.jpg?v=${stamp}`;
      found.onload = () => this.draw();
      found.onerror = () => this.app.fail(new Error(`${this.facts.key} cannot be read`));
      this.images.set(key, found);
    }
    return found.complete && found.naturalWidth ? found : null;
  }

  paintFound(context, tile) {
    const look = this.app.look();
    const key = `${this.picture}/${tile.z}/${tile.row}/${tile.column}`;
    const version = `${this.app.version(this.picture)}${look.changes ? "b" : ""}`;
    let found = this.planes.get(key);
    if ((!found || found.version !== version) && !this.waiting.has(key)) {
      this.waiting.add(key);
      askPlanes(`api/pictures/${key}/planes?before=${look.changes}`)
        .then((planes) => this.planes.set(key, {version, planes}))
        .catch(() => this.planes.set(key, {version, planes: null}))
        .finally(() => {
          this.waiting.delete(key);
          this.draw();
        });
    }
    if (!found || !found.planes) {
      return;
    }
    if (found.look !== look.stamp) {
      found.canvas = canvasOf(tint(found.planes, look));
      found.look = look.stamp;
    }
    const {width, height} = found.planes;
    context.drawImage(found.canvas, tile.x, tile.y, width * tile.step, height * tile.step);
  }

  // ---- the mask under the cursor

  // Which of the windows that overlap by half has its middle nearest: as the program has it.
  windowAt(at, length) {
    const side = this.app.state.window;
    if (length <= side) {
      return 0;
    }
    const steps = Math.ceil((length - side) / Math.max(1, side / 2));
    const begin = (i) => Math.round((length - side) * i / steps);
    let best = 0;
    for (let i = 1; i <= steps; i++) {
      if (Math.abs(begin(i) + side / 2 - at) < Math.abs(begin(best) + side / 2 - at)) {
        best = i;
      }
    }
    return best;
  }

  inside(place) {
    const {height, width} = this.facts;
    return place && place.x >= 0 && place.y >= 0 && place.x < width && place.y < height;
  }

  paintHover(context) {
    if (this.app.state.tool !== "mask" || !this.inside(this.cursor) || this.panning) {
      return;
    }
    const x = Math.floor(this.cursor.x), y = Math.floor(this.cursor.y);
    const {height, width} = this.facts;
    const {level} = this.app.state;
    const key = `${this.picture}/${this.windowAt(y, height)}/${this.windowAt(x, width)}/${level}`;
    const found = this.masks.get(key);
    if (!found) {
      if (!this.waiting.has(key + "masks")) {
        this.waiting.add(key + "masks");
        askPlanes(`api/pictures/${this.picture}/masks?x=${x}&y=${y}&level=${level}`)
          .then((masks) => this.masks.set(key, masks))
          .catch((error) => this.app.fail(error))
          .finally(() => {
            setTimeout(() => this.waiting.delete(key + "masks"), this.masks.has(key) ? 0 : 3000);
            this.draw();
          });
      }
      return;
    }
    const plane = found.planes[0];
    const id = plane[(y - found.y) * found.width + x - found.x];
    if (!id) {
      return;
    }
    const against = this.app.state.against;
    const name = `${key}/${id}/${against}/${this.app.state.chosen}`;
    if (this.hoverName !== name) {
      this.hoverName = name;
      this.hover = canvasOf(outline(found, plane, id, against ? [20, 20, 25] : this.app.colour()));
    }
    context.drawImage(this.hover, found.x, found.y);
  }

  paintStroke(context, s) {
    const {tool, radius, against} = this.app.state;
    if (tool === "mask" || !this.cursor || this.panning) {
      return;
    }
    const [r, g, b] = tool === "eraser" ? [255, 255, 255] : this.app.colour();
    if (this.stroke) {
      context.strokeStyle = `rgba(${r}, ${g}, ${b}, 0.7)`;
      context.lineWidth = 2 * radius;
      context.lineCap = context.lineJoin = "round";
      context.beginPath();
      for (const [x, y] of this.stroke.points) {
        context.lineTo(x, y);
      }
      context.lineTo(this.cursor.x, this.cursor.y);
      context.stroke();
    }
    context.lineWidth = 2 / s;
    context.strokeStyle = against || (this.stroke && this.stroke.against) ? "#111" : "#fff";
    context.beginPath();
    context.arc(this.cursor.x, this.cursor.y, radius, 0, 7);
    context.stroke();
  }

  paintCrosshair(context, s) {
    if (!this.crosshair || !this.cursor) {
      return;
    }
    const {x, y} = this.cursor, long = 14 / s;
    for (const [colour, wide] of [["#000", 4 / s], ["#fff", 2 / s]]) {
      context.strokeStyle = colour;
      context.lineWidth = wide;
      context.beginPath();
      context.moveTo(x - long, y);
      context.lineTo(x + long, y);
      context.moveTo(x, y - long);
      context.lineTo(x, y + long);
      context.stroke();
    }
  }

  // ---- hands

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    const at = {x: event.clientX - box.left, y: event.clientY - box.top};
    return {at, x: this.x + at.x / this.scale, y: this.y + at.y / this.scale};
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => this.wheel(event), {passive: false});
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", (event) => this.up(event));
    canvas.addEventListener("pointercancel", (event) => this.up(event, true));
    canvas.addEventListener("pointerleave", () => {
      if (!this.pointers.size && !this.crosshair) {
        this.cursor = null;
        this.draw();
      }
    });
  }

  wheel(event) {
    event.preventDefault();
    if (this.picture === null) {
      return;
    }
    const turn = event.deltaY || event.deltaX;
    if (event.shiftKey) {
      this.app.resize(turn < 0 ? 1 : -1);
      return;
    }
    this.zoom(Math.exp(-Math.max(-60, Math.min(60, turn)) * (event.ctrlKey ? 0.01 : 0.004)), this.place(event).at);
  }

  down(event) {
    if (this.picture === null) {
      return;
    }
    this.canvas.focus({preventScroll: true});
    this.canvas.setPointerCapture(event.pointerId);
    const place = this.place(event);
    this.pointers.set(event.pointerId, {...place, moved: false});
    this.cursor = place;
    this.crosshair = false;
    const paints = this.app.state.tool !== "mask" && event.button !== 1 && !this.app.state.space;
    if (this.pointers.size === 1 && paints) {
      this.stroke = {points: [[place.x, place.y]], against: this.app.state.against || event.button === 2};
    } else {
      this.stroke = null; // a second finger: no stroke, but a pinch
    }
    this.draw();
  }

  move(event) {
    if (this.picture === null) {
      return;
    }
    const place = this.place(event), held = this.pointers.get(event.pointerId);
    if (!held) {
      this.cursor = place;
      this.crosshair = false;
    } else if (this.pointers.size === 2) {
      this.pinch(event.pointerId, place);
    } else if (this.stroke) {
      this.cursor = place;
      this.stroke.points.push([place.x, place.y]);
    } else if (held.moved || Math.hypot(place.at.x - held.at.x, place.at.y - held.at.y) > 5) {
      held.moved = this.panning = true;
      this.fitted = false;
      this.x -= (place.at.x - held.at.x) / this.scale;
      this.y -= (place.at.y - held.at.y) / this.scale;
      held.at = place.at;
    }
    this.draw();
  }

  pinch(id, place) {
    const held = this.pointers.get(id);
    const [other] = [...this.pointers].filter(([key]) => key !== id).map(([, value]) => value);
    const distance = (p) => Math.hypot(p.x - other.at.x, p.y - other.at.y);
    this.x -= (place.at.x - held.at.x) / 2 / this.scale;
    this.y -= (place.at.y - held.at.y) / 2 / this.scale;
    this.zoom(distance(place.at) / Math.max(1, distance(held.at)),
      {x: (place.at.x + other.at.x) / 2, y: (place.at.y + other.at.y) / 2});
    held.at = place.at;
    held.moved = other.moved = true;
  }

  up(event, cancelled = false) {
    const held = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    this.panning = false;
    if (!held || cancelled) {
      this.stroke = null;
    } else if (this.stroke) {
      this.paintMarks(this.stroke);
    } else if (!held.moved && !this.pointers.size && event.button !== 1) {
      this.mark(this.app.state.against || event.button === 2);
    }
    this.draw();
  }

  async mark(against) {
    if (!this.inside(this.cursor)) {
      return;
    }
    const {x, y} = this.cursor;
    if (this.app.state.tool !== "mask") {
      await this.paintMarks({points: [[x, y]], against});
      return;
    }
    await this.send("api/mark", {
      picture: this.picture, x: Math.floor(x), y: Math.floor(y), level: this.app.state.level, against,
    });
  }

  async paintMarks({points, against}) {
    const {radius, tool} = this.app.state;
    await this.send("api/stroke", {picture: this.picture, points, radius, against}, tool === "eraser");
    this.stroke = null;
  }

  async send(path, words, erase = false) {
    try {
      words.number = erase ? 0 : await this.app.needClass();
      const answer = await ask(path, words);
      this.app.onMarked(words.picture, answer.changed);
    } catch (error) {
      this.app.fail(error);
    }
  }

  // Arrow keys: a crosshair, kept in sight.
  step(dx, dy, fine) {
    const {height, width} = this.facts;
    if (!this.cursor || !this.crosshair) {
      this.cursor = this.centre();
    }
    const far = fine ? 1 : 12 / this.scale;
    this.crosshair = true;
    this.cursor = {
      x: Math.max(0, Math.min(width - 1, this.cursor.x + dx * far)),
      y: Math.max(0, Math.min(height - 1, this.cursor.y + dy * far)),
    };
    const edge = 30 / this.scale;
    this.x = Math.min(this.x, this.cursor.x - edge);
    this.y = Math.min(this.y, this.cursor.y - edge);
    this.x = Math.max(this.x, this.cursor.x + edge - this.width / this.scale);
    this.y = Math.max(this.y, this.cursor.y + edge - this.height / this.scale);
    this.draw();
  }
}

function outline({height, width}, plane, id, [r, g, b]) {
  const image = new ImageData(width, height);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (plane[i] !== id) {
        continue;
      }
      const inner = x > 0 && x < width - 1 && y > 0 && y < height - 1 && plane[i - 1] === id
        && plane[i + 1] === id && plane[i - width] === id && plane[i + width] === id;
      image.data.set(inner ? [r, g, b, 70] : [255, 255, 255, 240], 4 * i);
    }
  }
  return image;
}
