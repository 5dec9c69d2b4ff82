// The difference of two memories of the same branch.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { useFetched } from "./memories.js";
import { percent } from "./parts.js";
import { nameOf } from "./tree.js";

const CLASSES = { "+": "added", "-": "removed" };

export function MemoryDiff({ path, numbers, index }) {
  const [earlier, setEarlier] = useState("");
  const turn = path[index];
  const choices = path.slice(0, index);
  useEffect(() => setEarlier(""), [turn.id]);
  const isValid = choices.some(({ id }) => id === earlier);
  const { value, error } = useFetched(isValid ? `/v1/rxlm/responses/${turn.id}/diff?earlier=${earlier}` : null);
  if (choices.length === 0) return null;
  return html`<section class="part">
    <h2>Compare</h2>
    <label class="line">With the memory after
      <select class="field" value=${earlier} onChange=${(event) => setEarlier(event.target.value)}>
        <option value="">choose a turn</option>
        ${choices.map((other) => html`<option key=${other.id} value=${other.id}>${nameOf(other, numbers)}</option>`)}
      </select></label>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${
      value &&
      html`<p>${percent(value.share)} of the memory changed.</p>
      <pre class="diff" tabindex="0">${value.lines.map((line, at) => html`<span key=${at}
        class=${CLASSES[line[0]] ?? ""}>${line}${"\n"}</span>`)}</pre>`
    }
  </section>`;
}
