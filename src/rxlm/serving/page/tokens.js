// A run of tokens, each coloured. One stop of the Tab key: the arrow keys move inside, Space or a click chooses.

import { html, useMemo, useRef, useState } from "./vendor/htm-preact.js";

const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };

// The space before a token is not coloured, so that lines end evenly; a token of nothing else is.
const spaceOf = ({ text }) => (text.trim() ? /^\s*/.exec(text)[0] : "");

// pieces: [{key, text, title, share?, weight?, chosen?}]; share colours the ground, weight draws a frame.
export function Tokens({ id, label, pieces, choose, several }) {
  const [active, setActive] = useState(null); // index
  const holder = useRef();
  const nameOf = (index) => `${id}-${index}`;
  const press = (event) => {
    const token = event.target.closest("[data-index]");
    if (!token) return;
    setActive(Number(token.dataset.index));
    choose(pieces[token.dataset.index], event.shiftKey);
  };
  const keys = (event) => {
    const step = STEPS[event.key];
    const to = { Home: 0, End: pieces.length - 1 }[event.key] ?? (step && (active === null ? 0 : active + step));
    if (to !== undefined) {
      const next = Math.max(0, Math.min(pieces.length - 1, to));
      setActive(next);
      holder.current.children[next]?.scrollIntoView({ block: "nearest" });
    } else if ([" ", "Enter"].includes(event.key) && active !== null) choose(pieces[active], event.shiftKey);
    else return;
    event.preventDefault();
  };
  const drawn = useMemo(
    () =>
      pieces.flatMap((piece, index) => [
        spaceOf(piece),
        html`<span key=${piece.key} id=${nameOf(index)} data-index=${index} role="option"
      class=${`token${piece.chosen ? " chosen" : ""}${piece.weight ? " read" : ""}${index === active ? " active" : ""}`}
      aria-selected=${String(Boolean(piece.chosen))} aria-label=${`${piece.text.trim() || "space"}, ${piece.title}`} title=${piece.title}
      style=${{ "--share": piece.share ?? 0, "--weight": piece.weight ?? 0 }}>${piece.text.slice(spaceOf(piece).length)}</span>`,
      ]),
    [pieces, active],
  );
  return html`<div class="tokens" ref=${holder} role="listbox" aria-label=${label}
    aria-multiselectable=${String(several)} tabindex="0"
    aria-activedescendant=${active === null ? undefined : nameOf(active)} onClick=${press} onKeyDown=${keys}
    onBlur=${() => setActive(null)}>${drawn}</div>`;
}

// The positions of the word that a token belongs to: tokens up to the next space.
export function wordOf(pieces, position) {
  const at = pieces.findIndex((piece) => piece.position === position);
  const startsWord = (index) => index <= 0 || /^\s/.test(pieces[index].text) || /\s$/.test(pieces[index - 1].text);
  let from = at;
  while (!startsWord(from)) from -= 1;
  let to = at + 1;
  while (to < pieces.length && !startsWord(to)) to += 1;
  return pieces.slice(from, to);
}
