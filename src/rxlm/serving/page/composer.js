// The box in which questions are written.

import { html, useRef } from "./vendor/htm-preact.js";
import { setDraft } from "./conversations.js";
import { isNarrow } from "./panel_switch.js";
import { GrowingText, IconButton } from "./parts.js";
import { isAnswering, state } from "./state.js";
import { send, stop } from "./turns.js";

export const focusBox = () => requestAnimationFrame(() => document.getElementById("box")?.focus());

// After what removes the focused button. On a phone the focus would raise the keyboard over the page.
export const returnToBox = () => isNarrow() || focusBox();

export function Composer() {
  const box = useRef();
  const answering = isAnswering();
  const submit = (event) => {
    event?.preventDefault();
    if (!answering && state.draft.trim()) send(state.draft);
    box.current.focus();
  };
  const keys = (event) => {
    // 229: the Enter that ends an input method's composition.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    submit(event);
  };
  return html`<form class="composer" onSubmit=${submit}><div class="inner">
    <div class="box">
      <label class="hidden" for="box">Message</label>
      <${GrowingText} id="box" inputRef=${box} value=${state.draft} placeholder="Write a message" autocomplete="off"
        aria-describedby="box-hint" onInput=${(event) => setDraft(event.target.value)} onKeyDown=${keys} />
      ${
        answering
          ? html`<${IconButton} key="stop" icon="stop" label="Stop the answer" shortcut="Escape"
          class="icon-button round" onClick=${stop} />`
          : html`<${IconButton} key="send" icon="send" label="Send" shortcut="Enter" class="icon-button round primary"
          type="submit"
            disabled=${!state.draft.trim() || !state.status} />`
      }
    </div>
    <p class="hint" id="box-hint"><span>Enter sends, Shift+Enter starts a new line. </span>The model can be wrong.</p>
  </div></form>`;
}
