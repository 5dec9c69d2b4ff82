// The forget test: the same question answered with the whole memory, and without some of its tokens.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { inPlainWords, post } from "./api.js";
import { plural } from "./parts.js";
import { wordOf } from "./tokens.js";

// Words are selected as a whole, so a word is selected where its first token is.
function wordsOf(turns, selected) {
  return turns.flatMap(({ pieces }) =>
    pieces
      .filter(({ position }) => selected.has(position) && wordOf(pieces, position)[0].position === position)
      .map(({ position }) =>
        wordOf(pieces, position)
          .map(({ text }) => text)
          .join("")
          .trim(),
      ),
  );
}

export function AnswerWithout({ turn, number, turns, selected, clear }) {
  const [question, setQuestion] = useState("");
  const [result, setResult] = useState(null); // {answer, answer_without} or {error}
  const [isBusy, setBusy] = useState(false);
  useEffect(() => setResult(null), [turn.id, selected]);
  if (selected.size === 0) {
    return html`<p class="quiet tip">Select words above to see the answer without them.</p>`;
  }
  const words = wordsOf(turns, selected);
  const run = async (event) => {
    event.preventDefault();
    setBusy(true);
    const body = { positions: [...selected].sort((a, b) => a - b) };
    if (question.trim()) body.input = question.trim();
    try {
      setResult(await post(`/v1/rxlm/responses/${turn.id}/without`, body));
    } catch (error) {
      setResult({ error: inPlainWords(error) });
    }
    setBusy(false);
  };
  const needsQuestion = turn.kind !== "turn";
  return html`<form class="without" onSubmit=${run} aria-label="Answer without the selected words">
    <p><strong>${plural(words.length, "word")} selected:</strong> ${words.join(", ")} <button type="button"
      class="link" onClick=${clear}>Clear</button></p>
    <label class="line">Question<input class="field" value=${question} required=${needsQuestion}
      placeholder=${needsQuestion ? "A question" : `Empty: the question of turn ${number} again`}
      onInput=${(event) => setQuestion(event.target.value)} /></label>
    <button type="submit" class="primary" disabled=${isBusy}>${isBusy ? "Answering…" : "Answer without these"}</button>
    <div aria-live="polite">
      ${result?.error && html`<p class="error">${result.error}</p>`}
      ${
        result &&
        !result.error &&
        html`<dl class="pair">
        <div><dt>With everything</dt><dd>${result.answer}</dd></div>
        <div><dt>Without ${words.join(", ")}</dt><dd>${result.answer_without}</dd></div></dl>
        ${result.answer === result.answer_without && html`<p class="quiet">The two answers are the same.</p>`}`
      }
    </div>
  </form>`;
}
