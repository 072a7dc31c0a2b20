// What the page asks its program: JSON, and planes of bytes.

export async function ask(path, words) {
  const how = words === undefined ? {} : {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify(words),
  };
  const answer = await fetch(path, how);
  const found = await answer.json();
  if (!answer.ok) {
    throw new Error(found.error || `the program answered ${answer.status}`);
  }
  return found;
}

// {count, height, width, y, x, planes: [Uint8Array]}
export async function askPlanes(path) {
  const answer = await fetch(path);
  if (!answer.ok) {
    throw new Error((await answer.json()).error);
  }
  const [count, height, width, y, x] = answer.headers.get("X-Shape").split(",").map(Number);
  const bytes = new Uint8Array(await answer.arrayBuffer());
  const size = height * width;
  const planes = Array.from({length: count}, (_, i) => bytes.subarray(i * size, (i + 1) * size));
  return {count, height, width, y, x, planes};
}

// A map that forgets what was used longest ago.
export class Recent extends Map {
  constructor(limit) {
    super();
    this.limit = limit;
  }

  get(key) {
    const found = super.get(key);
    if (found !== undefined) {
      super.delete(key);
      super.set(key, found);
    }
    return found;
  }

  set(key, value) {
    super.set(key, value);
    if (this.size > this.limit) {
      this.delete(this.keys().next().value);
    }
    return this;
  }
}
