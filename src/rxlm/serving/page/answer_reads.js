// Which kept tokens each token of an answer read.

import { html, useEffect, useMemo, useState } from "./vendor/htm-preact.js";
import { useFetched } from "./memories.js";
import { percent } from "./parts.js";
import { Tokens } from "./tokens.js";

const NAMED = 5;

export function AnswerReads({ turn, number, all, setWeights }) {
  const [isOpen, setOpen] = useState(false);
  const [chosen, setChosen] = useState(null); // index of a token of the answer
  const path = `/v1/rxlm/responses/${turn.id}/reads`;
  const { value, error, path: shown } = useFetched(isOpen ? path : null);
  const reads = shown === path ? value : null;
  useEffect(() => setChosen(null), [turn.id]);
  const choose = ({ key }) => {
    const next = key === chosen ? null : key;
    setChosen(next);
    if (next === null) return setWeights(null);
    const read = reads.pieces[next].reads;
    const largest = Math.max(...read.map(([, weight]) => weight), 1e-9);
    return setWeights(new Map(read.map(([position, weight]) => [position, weight / largest])));
  };
  const pieces = useMemo(
    () =>
      reads?.pieces.map((piece, key) => ({
        key,
        text: piece.text,
        chosen: key === chosen,
        title: `read ${piece.reads.length} kept tokens`,
      })),
    [reads, chosen],
  );
  const named = chosen === null || !reads ? [] : reads.pieces[chosen].reads.slice(0, NAMED);
  const textAt = new Map(all.map((piece) => [piece.position, piece.text.trim()]));
  return html`<details class="part" open=${isOpen} onToggle=${(event) => setOpen(event.target.open)}>
    <summary>What the answer of turn ${number} read</summary>
    ${error && html`<p class="error" role="alert">${error}</p>`}
    ${isOpen && !reads && !error && html`<p class="quiet">Reading…</p>`}
    ${
      pieces &&
      html`<p class="quiet">Choose a token of the answer: the kept tokens that it read get a frame below.</p>
      <${Tokens} id="answer" label="Tokens of the answer" pieces=${pieces} several=${false} choose=${choose} />`
    }
    ${
      named.length > 0 &&
      html`<ol class="reads" aria-live="polite">${named.map(
        ([position, weight]) => html`<li key=${position}>
      <span>${textAt.get(position) || "space"}</span><meter min="0" max=${named[0][1]}
        value=${weight} /><span>${percent(weight)}</span></li>`,
      )}</ol>`
    }
  </details>`;
}
