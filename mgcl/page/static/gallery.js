// The gallery: only the cells in sight exist, however many pictures there are.

import {askPlanes, Recent} from "./api.js";
import {canvasOf, tint} from "./tint.js";

const CELL = 132; // pixels of a cell with its gap
const LABEL = 20;

export class Gallery {
  // `app`: {state, look(), version(picture), open(item)}
  constructor(box, app) {
    this.box = box;
    this.cells = box.firstElementChild;
    this.app = app;
    this.order = [];
    this.made = new Map(); // item -> element
    this.images = new Recent(1500);
    this.planes = new Recent(1500);
    this.chosen = -1;
    this.queue = [];
    this.asking = 0;
    box.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(box);
  }

  setOrder(order) {
    this.order = order;
    this.draw();
  }

  get columns() {
    return Math.max(1, Math.floor((this.box.clientWidth - 4) / CELL));
  }

  get visible() {
    const first = Math.max(0, Math.floor(this.box.scrollTop / (CELL + LABEL)) - 1);
    const last = Math.ceil((this.box.scrollTop + this.box.clientHeight) / (CELL + LABEL)) + 1;
    return this.order.slice(first * this.columns, last * this.columns);
  }

  draw() {
    if (!this.due) {
      this.due = true;
      requestAnimationFrame(() => {
        this.due = false;
        this.paint();
      });
    }
  }

  paint() {
    const columns = this.columns;
    this.cells.style.height = `${Math.ceil(this.order.length / columns) * (CELL + LABEL)}px`;
    const shown = new Set(this.visible);
    for (const [item, cell] of this.made) {
      if (!shown.has(item)) {
        cell.remove();
        this.made.delete(item);
      }
    }
    const first = Math.max(0, Math.floor(this.box.scrollTop / (CELL + LABEL)) - 1) * columns;
    this.visible.forEach((item, i) => {
      const cell = this.made.get(item) || this.make(item);
      const place = first + i;
      cell.style.transform = `translate(${place % columns * CELL}px, ${Math.floor(place / columns) * (CELL + LABEL)}px)`;
      this.fill(item, cell);
    });
  }

  make(item) {
    const cell = document.createElement("button");
    cell.className = "cell";
    cell.setAttribute("role", "listitem");
    cell.dataset.item = item;
    cell.innerHTML = '<canvas width="160" height="160"></canvas><span class="text"></span><span class="badge"></span>';
    cell.addEventListener("click", () => this.app.open(item));
    this.made.set(item, cell);
    this.cells.append(cell);
    return cell;
  }

  fill(item, cell) {
    const {state} = this.app;
    const [picture] = state.items[item];
    const look = this.app.look(), version = this.app.version(picture);
    const words = this.app.describe(item);
    const stamp = `${version} ${look.stamp} ${words.text} ${words.badge}`;
    cell.classList.toggle("chosen", item === this.chosen);
    cell.classList.toggle("none", words.none);
    if (cell.dataset.stamp === stamp) {
      return;
    }
    cell.querySelector(".text").textContent = words.text;
    cell.querySelector(".badge").textContent = words.badge;
    cell.setAttribute("aria-label", `${words.name}: ${words.spoken}`);
    cell.title = words.name;
    const image = this.images.get(item), planes = this.planes.get(item);
    if (!image) {
      this.ask(`i${item}`, () => this.loadImage(item));
    }
    if (!planes || planes.version !== version) {
      this.ask(`p${item}`, () => this.loadPlanes(item, picture));
    }
    if (image) {
      this.paintCell(cell.firstElementChild, image, planes && planes.planes, look);
      if (planes && planes.version === version) {
        cell.dataset.stamp = stamp;
      }
    }
  }

  paintCell(canvas, image, planes, look) {
    const context = canvas.getContext("2d");
    const ratio = Math.min(160 / image.width, 160 / image.height);
    const w = image.width * ratio, h = image.height * ratio;
    context.clearRect(0, 0, 160, 160);
    context.drawImage(image, (160 - w) / 2, (160 - h) / 2, w, h);
    if (planes) {
      context.imageSmoothingEnabled = false;
      context.drawImage(canvasOf(tint(planes, {...look, changes: false})), (160 - w) / 2, (160 - h) / 2, w, h);
    }
  }

  // Requests wait for each other, the newest first; what has left the sight is not asked for.
  ask(key, run) {
    if (!this.queue.some((one) => one.key === key) && !this.running?.has(key)) {
      this.queue.push({key, run});
      this.next();
    }
  }

  next() {
    this.running ||= new Set();
    while (this.running.size < 6 && this.queue.length) {
      const {key, run} = this.queue.pop();
      if (!this.made.has(Number(key.slice(1)))) {
        continue;
      }
      this.running.add(key);
      run().catch(() => {}).finally(() => {
        this.running.delete(key);
        this.draw();
        this.next();
      });
    }
  }

  async loadImage(item) {
    const [picture] = this.app.state.items[item];
    const image = new Image();
    image.src = `api/items/${item}.jpg?v=${this.app.state.pictures[picture][4]}`;
    await image.decode().catch(() => {});
    this.images.set(item, image.naturalWidth ? image : new OffscreenCanvas(160, 160));
  }

  async loadPlanes(item, picture) {
    const version = this.app.version(picture);
    const planes = await askPlanes(`api/items/${item}/planes`).catch(() => null);
    this.planes.set(item, {version, planes});
  }

  choose(item, scroll) {
    this.chosen = item;
    const place = this.order.indexOf(item);
    if (scroll && place >= 0) {
      const top = Math.floor(place / this.columns) * (CELL + LABEL);
      if (top < this.box.scrollTop || top + CELL + LABEL > this.box.scrollTop + this.box.clientHeight) {
        this.box.scrollTop = top - this.box.clientHeight / 3;
      }
    }
    this.draw();
  }

  beside(step) {
    const place = this.order.indexOf(this.chosen);
    return this.order[Math.max(0, Math.min(this.order.length - 1, place + step))];
  }
}
