// A retained memory: the transcript with each token coloured by the share of layers and heads that keep it.

import { html, useEffect, useMemo, useState } from "./vendor/htm-preact.js";
import { AnswerReads } from "./answer_reads.js";
import { AnswerWithout } from "./answer_without.js";
import { percent } from "./parts.js";
import { isAnswering, state } from "./state.js";
import { forgottenIn, turnOf } from "./tree.js";
import { Tokens, wordOf } from "./tokens.js";
import { forget, shownPath } from "./turns.js";

function Legend() {
  return html`<div class="legend" role="img"
    aria-label="Colour: the share of heads that keep a token, from none to all">
    <span>no head keeps it</span><i /><span>every head keeps it</span></div>`;
}

function MemoryTurn({ turn, name, weights, selected, toggle, canForget }) {
  const pieces = useMemo(
    () =>
      turn.pieces.map((piece) => {
        const weight = weights?.get(piece.position) ?? 0;
        return {
          ...piece,
          key: piece.position,
          weight,
          chosen: selected.has(piece.position),
          title: `kept by ${percent(piece.share)} of heads${weight ? `, read with weight ${weight.toFixed(2)} of the largest` : ""}`,
        };
      }),
    [turn, weights, selected],
  );
  const mean = turn.pieces.reduce((sum, piece) => sum + piece.share, 0) / Math.max(1, turn.pieces.length);
  const stored = turnOf(state.tree, turn.response_id);
  return html`<section class="memory-turn">
    <div class="memory-turn-head"><h3>${name}</h3><span class="quiet">${percent(mean)} kept</span>
      ${canForget && stored && html`<button type="button" class="plain small"
        onClick=${() => forget(stored)}>Forget this turn</button>`}</div>
    <${Tokens} id=${`kept-${turn.response_id ?? "system"}`} label=${`Tokens of ${name}`} pieces=${pieces} several=${true}
      choose=${(piece) => toggle(wordOf(turn.pieces, piece.position))} />
  </section>`;
}

export function RetainedMemory({ memory, turn, numbers, isLast }) {
  const [selected, setSelected] = useState(new Set()); // positions
  const [weights, setWeights] = useState(null); // position -> weight relative to the largest
  useEffect(() => {
    setSelected(new Set());
    setWeights(null);
  }, [turn.id]);
  const toggle = (word) => {
    const next = new Set(selected);
    const isIn = next.has(word[0].position);
    for (const { position } of word) isIn ? next.delete(position) : next.add(position);
    setSelected(next);
  };
  const forgotten = forgottenIn(shownPath());
  const nameOf = (id) =>
    id === null ? "System prompt" : `Turn ${numbers.get(id) ?? ""}${forgotten.has(id) ? " (forgotten)" : ""}`;
  const all = useMemo(() => memory.turns.flatMap(({ pieces }) => pieces), [memory]);
  return html`${turn.kind === "turn" && html`<${AnswerReads} turn=${turn} number=${numbers.get(turn.id)} all=${all}
    setWeights=${setWeights} />`}
    <h2>What is kept</h2>
    <${Legend} />
    ${memory.turns.map(
      (row) => html`<${MemoryTurn} key=${row.response_id} turn=${row} name=${nameOf(row.response_id)} weights=${weights}
      selected=${selected} toggle=${toggle} canForget=${isLast && !forgotten.has(row.response_id) && !isAnswering()} />`,
    )}
    <${AnswerWithout} turn=${turn} number=${numbers.get(turn.id)} turns=${memory.turns} selected=${selected}
      clear=${() => setSelected(new Set())} />`;
}
