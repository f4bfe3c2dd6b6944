"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, text, parent) => {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };

  // A folded part opens for printing, and closes again.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const each of closed) each.open = true;
  });
  addEventListener("afterprint", () => { for (const each of closed) each.open = false; });

  const copying = byId("copying");
  copying.hidden = false;
  byId("copy").addEventListener("click", () => {
    const chosen = getSelection();
    chosen.selectAllChildren(byId("methods-text"));
    byId("copied").textContent = document.execCommand("copy") ? "Copied." : "Selected: copy it with the keyboard.";
  });

  const source = byId("data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const { layers, conditions, heads, cells, groups } = data;
  const width = conditions.length;
  const table = byId("values");
  const head = table.tHead.rows[0];
  const body = table.tBodies[0];
  const open = new Set();
  let sorted = null;
  let down = false;
  let every = false;

  const number = (x) => {
    const size = Math.abs(x);
    return (size >= 100 ? x.toFixed(0) : x.toPrecision(3)).replaceAll("-", "−");
  };
  const cell = (column, layer, condition) => cells[column][layer * width + condition];

  const show = (found, parent) => {
    const at = make("td", undefined, parent);
    if (!found) { at.textContent = "—"; return; }
    const [mean, low, high, n, runs, ceiling] = found;
    at.textContent = number(mean) + (ceiling ? " †" : "");
    const seeds = n < runs ? `${n} of ${runs} seeds` : n === 1 ? "one seed" : low === null ? "equal seeds" : "";
    const interval = low === null ? "" : `[${number(low)}, ${number(high)}]`;
    if (interval || seeds) make("small", [interval, seeds].filter(Boolean).join(" "), at);
  };
  const span = (column, [first, last], condition, parent) => {
    const means = [];
    for (let layer = first; layer <= last; layer++) {
      const found = cell(column, layer, condition);
      if (found) means.push(found[0]);
    }
    const at = make("td", undefined, parent);
    if (!means.length) { at.textContent = "—"; return; }
    const ends = [Math.min(...means), Math.max(...means)].map(number);
    at.textContent = ends[0] === ends[1] ? ends[0] : ends.join(" to ");
  };

  const draw = () => {
    const wanted = byId("layer-filter").value.trim().toLowerCase();
    const only = byId("condition-filter").value;
    const fits = (layer) => layers[layer].toLowerCase().includes(wanted);
    const chosen = [...conditions.keys()].filter((c) => only === "" || c === Number(only));
    const rows = [];
    if (sorted !== null || every || wanted) {
      for (const layer of layers.keys()) if (fits(layer)) for (const c of chosen) rows.push([[layer, layer], c]);
    } else {
      for (const group of groups) {
        const many = group[1] > group[0];
        if (many) for (const c of chosen) rows.push([group, c]);
        if (!many || open.has(group[0]))
          for (let layer = group[0]; layer <= group[1]; layer++) for (const c of chosen) rows.push([[layer, layer], c, many]);
      }
    }
    if (sorted !== null) {
      const key = sorted < 0 ? ([[layer], c]) => (sorted === -2 ? layer : c) : ([[layer], c]) => cell(sorted, layer, c)?.[0];
      rows.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined); // no value: last
        return down ? y - x : x - y;
      });
    }
    const made = document.createDocumentFragment();
    for (const [group, c, inner] of rows) {
      const row = make("tr", undefined, made);
      const name = make("th", undefined, row);
      name.scope = "row";
      const [first, last] = group;
      if (last > first) {
        const button = make("button", `${layers[first]} to ${layers[last]} (${last - first + 1})`, name);
        button.type = "button";
        button.dataset.group = `${first}.${c}`;
        button.setAttribute("aria-expanded", open.has(first));
        button.addEventListener("click", () => {
          if (!open.delete(first)) open.add(first);
          draw();
          body.querySelector(`[data-group="${first}.${c}"]`)?.focus();
        });
      } else name.textContent = (inner ? "\u2003" : "") + layers[first];
      make("td", conditions[c], row);
      for (const column of heads.keys()) {
        if (last > first) span(column, group, c, row);
        else show(cell(column, first, c), row);
      }
    }
    body.replaceChildren(made);
    byId("count").textContent = `${rows.length} rows`;
    for (const at of head.cells) {
      const mine = Number(at.dataset.column) === sorted;
      at.setAttribute("aria-sort", mine ? (down ? "descending" : "ascending") : "none");
    }
  };

  for (const [place, text] of ["layer", "condition", ...heads].entries()) {
    const at = make("th", undefined, head);
    at.scope = "col";
    at.dataset.column = place - 2;
    const button = make("button", text, at);
    button.type = "button";
    button.addEventListener("click", () => {
      // Up, down, and back to the order of the network.
      if (sorted !== place - 2) { sorted = place - 2; down = false; } else if (!down) down = true; else { sorted = null; down = false; }
      draw();
    });
  }
  for (const [place, name] of conditions.entries()) make("option", name, byId("condition-filter")).value = place;
  if (!groups.some(([first, last]) => last > first)) byId("unfold").hidden = true;
  byId("unfold").addEventListener("click", (event) => {
    every = !every;
    event.currentTarget.setAttribute("aria-pressed", every);
    draw();
  });
  byId("layer-filter").addEventListener("input", draw);
  byId("condition-filter").addEventListener("input", draw);
  byId("controls").hidden = false;
  draw();
})();
