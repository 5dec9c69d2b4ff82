// The memory inspector: what the memory holds after each turn of the current branch.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { MemoryDiff } from "./memory_diff.js";
import { useFetched } from "./memories.js";
import { bytes, IconButton, percent, plural, timeOf } from "./parts.js";
import { RetainedMemory } from "./retained_memory.js";
import { SlotMemory } from "./slot_memory.js";
import { state } from "./state.js";
import { nameOf, numbersOf } from "./tree.js";
import { shownPath } from "./turns.js";

function Slider({ path, numbers, index, setIndex }) {
  const turn = path[index];
  const step = (by) => setIndex(Math.min(path.length - 1, Math.max(0, index + by)));
  return html`<div class="slider">
    <label for="memory-turn">Memory after <strong>${nameOf(turn, numbers)}</strong>${turn.kind === "turn" && html`<span class="quiet"> of ${numbers.size}</span>`}</label>
    <div class="slider-row">
      <${IconButton} icon="back" label="One turn earlier" disabled=${index === 0} onClick=${() => step(-1)} />
      <input id="memory-turn" type="range" min="0" max=${path.length - 1} value=${index} disabled=${path.length === 1}
        aria-valuetext=${`after ${nameOf(turn, numbers)}`} onInput=${(event) => setIndex(Number(event.target.value))} />
      <${IconButton} icon="forward" label="One turn later" disabled=${index === path.length - 1}
        onClick=${() => step(1)} />
    </div>
  </div>`;
}

function Figures({ memory, turn }) {
  const update = state.updates[turn.id];
  const rows = [["Size", bytes(memory.num_bytes)]];
  if (memory.kind === "retained") {
    const limit = memory.limit ? ` (limit ${memory.limit})` : "";
    rows.push(["Kept", `${plural(memory.kept, "token")} a head${limit}`]);
    rows.push([
      "Said",
      `${plural(memory.said, "token")}, ${percent(memory.said ? memory.kept / memory.said : 1)} kept`,
    ]);
  } else {
    rows.push(["Slots", memory.slots]);
  }
  rows.push([
    "Updated",
    `${timeOf(update?.at ?? turn.created_at)}${update ? `, took ${update.seconds.toFixed(2)} s` : ""}`,
  ]);
  return html`<dl class="figures">${rows.map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

export function Inspector() {
  const path = shownPath();
  const last = path.length - 1;
  const [chosen, setChosen] = useState(null); // id of a turn; null follows the newest
  useEffect(() => setChosen(state.panelTurn), [state.panelTurn]);
  const found = path.findIndex((turn) => turn.id === chosen);
  const index = found === -1 ? last : found;
  const turn = path[index];
  const { value: memory, error } = useFetched(turn && `/v1/rxlm/responses/${turn.id}/memory`);
  if (!turn)
    return html`<p class="quiet">The memory is empty: nothing has been said yet. It is updated after each answer.</p>`;
  const numbers = numbersOf(path);
  const View = memory?.kind === "slots" ? SlotMemory : RetainedMemory;
  return html`<${Slider} path=${path} numbers=${numbers} index=${index}
    setIndex=${(at) => setChosen(at === last ? null : path[at].id)} />
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${!memory && !error && html`<p class="quiet">Reading the memory…</p>`}
    ${
      memory &&
      html`
      <${Figures} memory=${memory} turn=${turn} />
      <${View} memory=${memory} turn=${turn} numbers=${numbers} isLast=${index === last} />
      <${MemoryDiff} path=${path} numbers=${numbers} index=${index} />`
    }`;
}
