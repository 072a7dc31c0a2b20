// From planes (class, level, marks, class and level before) to a see-through picture.

const NOT = 100; // added to a class's number in the marks

// `look`: {threshold, colours: {number: [r, g, b]}, found, marks, changes}
export function tint({height, width, planes}, look) {
  const image = new ImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const [best, level, marks, , before] = planes;
  const cut = Math.floor(255 * look.threshold);
  const fill = table(look.colours, 84), edge = table(look.colours, 235), mark = table(look.colours, 190);
  const changes = look.changes && before;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const m = look.marks ? marks[i] : 0;
      if (m) {
        out[i] = m > NOT ? not(mark[m - NOT], x, y) : rim(marks, i, x, y, width, height, m) ? WHITE : mark[m];
        continue;
      }
      if (changes) {
        const now = level[i] > cut, then = before[i] > cut;
        out[i] = now && !then ? GAINED : then && !now ? lost(x, y) : now && look.found ? fill[best[i]] : 0;
        continue;
      }
      if (look.found && level[i] > cut) {
        const c = best[i];
        const inside = (x === 0 || same(i - 1, c)) && (x === width - 1 || same(i + 1, c))
          && (y === 0 || same(i - width, c)) && (y === height - 1 || same(i + width, c));
        out[i] = inside ? fill[c] : edge[c];
      }
    }
  }
  function same(j, c) {
    return level[j] > cut && best[j] === c;
  }
  return image;
}

const WHITE = rgba(255, 255, 255, 235);
const GAINED = rgba(120, 255, 120, 200);
const LOST = rgba(255, 60, 60, 220);
const DARK = rgba(15, 15, 20, 200);

function rgba(r, g, b, a) {
  return (a << 24 | b << 16 | g << 8 | r) >>> 0;
}

function table(colours, alpha) {
  const found = new Uint32Array(256);
  for (const [number, [r, g, b]] of Object.entries(colours)) {
    found[number] = rgba(r, g, b, alpha);
  }
  return found;
}

function not(colour, x, y) {
  return (x + y) % 6 < 3 ? DARK : colour;
}

function lost(x, y) {
  return (x + y) % 4 < 2 ? LOST : DARK;
}

function rim(marks, i, x, y, width, height, m) {
  return x > 0 && marks[i - 1] !== m || x < width - 1 && marks[i + 1] !== m
    || y > 0 && marks[i - width] !== m || y < height - 1 && marks[i + width] !== m;
}

export function parse(colour) {
  const n = parseInt(colour.slice(1), 16);
  return [n >> 16, n >> 8 & 255, n & 255];
}

// A canvas that holds an ImageData, to be drawn scaled.
export function canvasOf(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}
