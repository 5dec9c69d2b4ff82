// A memory of slots: how much each turn changed each slot, as a heat map.

import { html, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { isDark } from "./theme_switch.js";

const ROW = 18; // CSS pixels

function draw(canvas, turns, slots, largest) {
  const ratio = devicePixelRatio || 1;
  const width = canvas.clientWidth;
  canvas.width = width * ratio;
  canvas.height = turns.length * ROW * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.fillStyle = getComputedStyle(canvas).color;
  const cell = width / slots;
  const gap = cell > 5 ? 1 : 0;
  turns.forEach(({ change }, row) =>
    change.forEach((value, slot) => {
      context.globalAlpha = 0.05 + (0.95 * value) / largest;
      context.fillRect(slot * cell, row * ROW, cell - gap, ROW - 2);
    }),
  );
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);

export function SlotMemory({ memory, numbers }) {
  const canvas = useRef();
  const [pointed, setPointed] = useState(null); // {turn, slot}
  const { turns, slots } = memory;
  const largest = Math.max(1e-9, ...turns.map(({ change }) => Math.max(...change)));
  useLayoutEffect(() => {
    const redraw = () => draw(canvas.current, turns, slots, largest);
    const observer = new ResizeObserver(redraw);
    observer.observe(canvas.current);
    redraw();
    return () => observer.disconnect();
  }, [memory, isDark()]);
  const point = (event) => {
    const box = canvas.current.getBoundingClientRect();
    const turn = Math.floor((event.clientY - box.top) / ROW);
    const slot = Math.floor(((event.clientX - box.left) / box.width) * slots);
    setPointed(turns[turn]?.change[slot] === undefined ? null : { turn, slot });
  };
  const nameOf = (row) => `turn ${numbers.get(row.response_id) ?? turns.indexOf(row) + 1}`;
  const told =
    pointed &&
    `${nameOf(turns[pointed.turn])}, slot ${pointed.slot + 1}: changed by ${turns[pointed.turn].change[pointed.slot].toFixed(3)}`;
  return html`<h2>Change of each slot</h2>
    <p class="quiet">A row is a turn, a column is a slot. The stronger the colour, the more the turn changed it; the largest change is ${largest.toFixed(3)}.</p>
    <canvas class="heat" ref=${canvas} style=${{ height: `${turns.length * ROW}px` }} role="img"
      aria-label=${`Heat map of ${turns.length} turns and ${slots} slots; the table below has its figures`}
      onPointerMove=${point} onPointerLeave=${() => setPointed(null)} />
    <p class="quiet told">${told || "Point at a cell to read its value."}</p>
    <table class="slots"><thead><tr><th>Turn</th><th>Mean change</th><th>Largest change</th><th>In slot</th></tr></thead>
      <tbody>${turns.map((row) => {
        const top = row.change.indexOf(Math.max(...row.change));
        return html`<tr key=${row.response_id}><td>${nameOf(row)}</td><td>${mean(row.change).toFixed(3)}</td><td>${row.change[top].toFixed(3)}</td><td>${top + 1}</td></tr>`;
      })}</tbody></table>`;
}
