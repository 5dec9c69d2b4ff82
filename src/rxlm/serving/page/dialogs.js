// What is asked over the page: confirmations, a line of text, the key; and the list of shortcuts.

import { html, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { Buttons, Dialog } from "./dialog.js";
import { start, useKey } from "./connection.js";
import { MODIFIER, SHORTCUTS } from "./keyboard.js";
import { Settings } from "./settings.js";
import { state } from "./state.js";

const submitting = (save) => (event) => {
  event.preventDefault();
  save();
};

function Confirm({ title, text, action, close }) {
  return html`<${Dialog} title=${title} close=${close}>
    <form onSubmit=${submitting(() => close(true))}><p>${text}</p>
      <${Buttons} close=${close} action=${action} danger=${action === "Delete"} /></form>
  <//>`;
}

function TextLine({ title, label, value, action, close }) {
  const [text, setText] = useState(value);
  const field = useRef();
  useLayoutEffect(() => field.current.select(), []);
  return html`<${Dialog} title=${title} close=${close}>
    <form onSubmit=${submitting(() => close(text))}>
      <label class="line">${label}<input class="field" ref=${field} autofocus value=${text}
        onInput=${(event) => setText(event.target.value)} /></label>
      <${Buttons} close=${close} action=${action} /></form>
  <//>`;
}

function Help({ close }) {
  const keys = Object.entries(SHORTCUTS).map(
    ([key, [what]]) => html`<tr key=${key}><td><kbd>${key.toUpperCase()}</kbd></td><td>${what}</td></tr>`,
  );
  return html`<${Dialog} title="Keyboard shortcuts" close=${close}>
    <p>Outside of text boxes press the key alone; anywhere, the key with <kbd>${MODIFIER}</kbd>. Settings can switch the single keys off.</p>
    <table class="keys"><tbody>
      <tr><td><kbd>Enter</kbd></td><td>Send the message</td></tr>
      <tr><td><kbd>Shift</kbd> <kbd>Enter</kbd></td><td>New line</td></tr>
      <tr><td><kbd>Escape</kbd></td><td>Stop the answer; otherwise close what is open, leave the text box</td></tr>
      ${keys}
    </tbody></table>
    <p>In the memory inspector the arrow keys move from token to token, and Space selects.</p>
    <form onSubmit=${submitting(close)}><div class="buttons"><button type="submit"
      class="primary">Close</button></div></form>
  <//>`;
}

function Key() {
  const [key, setKey] = useState("");
  const text =
    state.keyProblem === "refused"
      ? "The server does not accept the key that this browser has."
      : "The server needs a key.";
  const save = () => {
    if (!key.trim()) return;
    useKey(key.trim());
    start();
  };
  return html`<${Dialog} title="Enter the key" locked=${true}>
    <form onSubmit=${submitting(save)}>
      <p>${text} <code>rxlm serve</code> prints it when it starts; it is kept in this browser only.</p>
      <label class="line">Key<input class="field" type="password" autofocus autocomplete="off" value=${key}
        onInput=${(event) => setKey(event.target.value)} /></label>
      <div class="buttons"><button type="submit" class="primary">Use this key</button></div></form>
  <//>`;
}

const KINDS = { confirm: Confirm, text: TextLine, help: Help, settings: Settings };

export function Dialogs() {
  if (state.keyProblem) return html`<${Key} key="key" />`;
  if (!state.dialog) return null;
  const Kind = KINDS[state.dialog.kind];
  return html`<${Kind} ...${state.dialog} />`;
}
