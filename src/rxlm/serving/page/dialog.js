// The frame of every dialog. The browser's <dialog> keeps the focus inside and closes with Escape.

import { html, useLayoutEffect, useRef } from "./vendor/htm-preact.js";

export function Dialog({ title, close, children, locked = false }) {
  const element = useRef();
  // Before it is painted: a key that is pressed as soon as a dialog is seen must not be lost.
  useLayoutEffect(() => {
    const opener = document.activeElement;
    element.current.showModal();
    return () => opener?.isConnected && opener.focus();
  }, []);
  const cancel = (event) => {
    event.preventDefault();
    if (!locked) close();
  };
  // A press on the backdrop has the dialog itself as its target.
  const outside = (event) => event.target === element.current && !locked && close();
  return html`<dialog ref=${element} aria-labelledby="dialog-title" onCancel=${cancel} onPointerDown=${outside}>
    <div class="dialog"><h1 id="dialog-title">${title}</h1>${children}</div>
  </dialog>`;
}

export function Buttons({ close, action, danger, cancel = "Cancel" }) {
  return html`<div class="buttons">
    <button type="button" class="plain" onClick=${() => close()}>${cancel}</button>
    <button type="submit" class=${danger ? "primary danger" : "primary"}>${action}</button>
  </div>`;
}
