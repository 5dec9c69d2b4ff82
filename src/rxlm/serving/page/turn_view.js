// One turn: the question, its branches, the answer and what can be done with them.

import { html, useState } from "./vendor/htm-preact.js";
import { returnToBox } from "./composer.js";
import { setEditor } from "./conversations.js";
import { CONSENT, rate, saveBetterAnswer } from "./feedback.js";
import { openPanel } from "./panel_switch.js";
import { copyText, GrowingText, IconButton, Markdown, Menu } from "./parts.js";
import { notify, state } from "./state.js";
import { childrenOf } from "./tree.js";
import { eraseTurn, forget, retry, sendEdited, switchTo, undo } from "./turns.js";

// "2 of 3" with arrows, where a turn has alternatives.
export function Arrows({ turn, disabled }) {
  const siblings = childrenOf(state.tree, turn.parent);
  if (siblings.length < 2) return null;
  const index = siblings.indexOf(turn);
  const go = async (step) => {
    const next = siblings[index + step].id;
    await switchTo(next);
    // The same arrow in the other branch, or the other arrow where that was the last one.
    requestAnimationFrame(() => {
      const [back, forward] = document.getElementById(next)?.querySelectorAll(".arrows button") ?? [];
      const [wanted, other] = step > 0 ? [forward, back] : [back, forward];
      (wanted?.disabled ? other : wanted)?.focus();
    });
  };
  return html`<span class="arrows" role="group" aria-label="Branches of this turn">
    <${IconButton} icon="back" label="Previous branch" shortcut="[" disabled=${disabled || index === 0}
      onClick=${() => go(-1)} />
    <span>${index + 1} of ${siblings.length}</span>
    <${IconButton} icon="forward" label="Next branch" shortcut="]"
      disabled=${disabled || index === siblings.length - 1} onClick=${() => go(1)} />
  </span>`;
}

// One editor for questions and answers; `save` gets the text.
function Editor({ label, hint, action, save }) {
  const { editor } = state;
  const keys = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing && editor.what === "question") {
      event.preventDefault();
      save(editor.text);
    }
  };
  return html`<form class="editor" onSubmit=${(event) => {
    event.preventDefault();
    save(editor.text);
  }}>
    <${GrowingText} class="field" aria-label=${label} value=${editor.text} onKeyDown=${keys}
      onInput=${(event) => setEditor({ ...editor, text: event.target.value })} />
    <p class="quiet">${hint}</p>
    <div class="buttons">
      <button type="button" class="plain" onClick=${() => setEditor(null)}>Cancel</button>
      <button type="submit" class="primary">${action}</button>
    </div>
  </form>`;
}

export function startEditing(turn, what) {
  setEditor({ id: turn.id, what, text: what === "question" ? turn.query : (turn.feedback?.edit ?? turn.answer) });
  requestAnimationFrame(() => document.querySelector(".editor textarea")?.focus());
}

function Question({ turn, busy }) {
  if (state.editor?.id === turn.id && state.editor.what === "question") {
    return html`<${Editor} label="Edited question" action="Send" save=${(text) => sendEdited(turn, text)}
      hint="This starts a new branch here; the old one stays." />`;
  }
  return html`<div class="question">
    <div class="bubble">${turn.query}</div>
    <div class="actions">
      <${IconButton} icon="edit" label="Edit the question" shortcut="E" disabled=${busy}
        onClick=${() => startEditing(turn, "question")} />
      <${Arrows} turn=${turn} disabled=${busy} />
    </div>
  </div>`;
}

export function Thought({ text, open }) {
  if (!text) return null;
  return html`<details class="thought" open=${open}><summary>Thought</summary><div>${text}</div></details>`;
}

function Actions({ turn, busy, isLast }) {
  const [copied, setCopied] = useState(false);
  const { feedback, memory } = state.status;
  const rating = turn.feedback?.rating;
  const copy = async () => {
    await copyText(turn.answer);
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return html`<div class="actions">
    <${IconButton} icon="copy" label=${copied ? "Copied" : "Copy the answer"} text=${copied ? "Copied" : ""}
      onClick=${copy} />
    <${IconButton} icon="retry" label="Retry: another answer as a branch" shortcut="R" disabled=${busy}
      onClick=${() => {
      retry(turn);
      returnToBox();
    }} />
    ${
      isLast &&
      html`<${IconButton} icon="undo" label="Undo this turn" shortcut="U" disabled=${busy} onClick=${() => {
        undo();
        returnToBox();
      }} />`
    }
    ${
      feedback &&
      html`<${IconButton} icon="up" label="Good answer" title=${`Good answer. ${CONSENT}`}
        pressed=${String(rating === "up")} onClick=${() => rate(turn, "up")} />
    <${IconButton} icon="down" label="Bad answer" title=${`Bad answer. ${CONSENT}`}
      pressed=${String(rating === "down")} onClick=${() => rate(turn, "down")} />`
    }
    <${IconButton} icon="memory" label="Memory after this turn" onClick=${() => openPanel("memory", turn.id)} />
    <${Menu} label="More actions" items=${[
      feedback && {
        label: turn.feedback?.edit ? "Edit the better answer" : "Write a better answer",
        run: () => startEditing(turn, "answer"),
      },
      memory === "retained" && { label: "Forget this turn", run: () => forget(turn), disabled: busy },
      { label: "Show the branches", run: () => openPanel("branches") },
      { label: "Copy the question", run: () => copyText(turn.query).then(() => notify("The question is copied.")) },
      { label: "Delete", run: () => eraseTurn(turn).then(returnToBox), danger: true, disabled: busy },
    ]} />
  </div>`;
}

function Answer({ turn }) {
  if (state.editor?.id === turn.id && state.editor.what === "answer") {
    return html`<${Editor} label="Better answer" action="Store" save=${(text) => saveBetterAnswer(turn, text)}
      hint=${`${CONSENT} The conversation itself does not change.`} />`;
  }
  return html`<${Markdown} text=${turn.answer} />
    ${!turn.answer && html`<p class="quiet">The answer is empty.</p>`}
    ${turn.status === "incomplete" && html`<p
      class="quiet">The answer was cut at its longest length. Settings can allow more tokens.</p>`}
    ${turn.feedback?.edit && html`<details
      class="thought"><summary>Your better answer</summary><${Markdown} text=${turn.feedback.edit} /></details>`}`;
}

export function TurnView({ turn, number, busy, isLast, isForgotten }) {
  return html`<article class=${`turn${isLast ? " last" : ""}${isForgotten ? " forgotten" : ""}`} id=${turn.id}
    aria-label=${`Turn ${number}`}>
    <${Question} turn=${turn} busy=${busy} />
    <div class="answer">
      ${isForgotten && html`<p class="quiet">The memory no longer keeps this turn.</p>`}
      <${Thought} text=${turn.thought} />
      <${Answer} turn=${turn} />
      <${Actions} turn=${turn} busy=${busy} isLast=${isLast} />
    </div>
  </article>`;
}

export function ForgetView({ turn, number, busy, isLast }) {
  return html`<div class="divider" id=${turn.id}>
    <span>${number ? `Turn ${number} was forgotten here` : "A turn was forgotten here"}</span>
    <${Arrows} turn=${turn} disabled=${busy} />
    ${isLast && html`<button type="button" class="plain" disabled=${busy} onClick=${undo}>Undo</button>`}
  </div>`;
}
