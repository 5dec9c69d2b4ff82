// The transcript of the current branch, and the answer that is coming.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact.js";
import { attempt, loadTree } from "./conversations.js";
import { prefer } from "./feedback.js";
import { openPanel } from "./panel_switch.js";
import { Icon, Markdown, plural } from "./parts.js";
import { change, isAnswering, liveHere, setLive, state } from "./state.js";
import { childrenOf, currentPath, forgottenIn, numbersOf, turnOf } from "./tree.js";
import { ForgetView, Thought, TurnView } from "./turn_view.js";
import { sendAgain, shownPath, switchTo, takeBack } from "./turns.js";

function useSecondsUntil(time) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!time) return undefined;
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, [time]);
  return time ? Math.max(0, Math.ceil((time - now) / 1000)) : 0;
}

async function dismiss() {
  setLive(state.current, null);
  await attempt(() => loadTree());
}

function Outcome({ live }) {
  const wait = useSecondsUntil(live.retryAt);
  const text = live.phase === "stopped" ? "Stopped. Nothing of this answer is stored or remembered." : live.error;
  return html`<div class=${`outcome ${live.phase}`} role="alert">
    <p>${text}${live.retryAt && (wait ? ` Try again in ${plural(wait, "second")}.` : " You can try again now.")}</p>
    <div class="buttons">
      <button type="button" class="plain" onClick=${dismiss}>Dismiss</button>
      <button type="button" class="plain" onClick=${takeBack}>Edit the question</button>
      <button type="button" class="primary" disabled=${wait > 0} onClick=${sendAgain}>Retry</button>
    </div>
  </div>`;
}

function Live({ live }) {
  const answering = isAnswering(live);
  return html`<article class="turn live" aria-label="New turn" aria-busy=${String(answering)}>
    <div class="question"><div class="bubble">${live.query}</div></div>
    <div class="answer">
      <${Thought} text=${live.thought} open=${!live.text} />
      ${live.text && html`<div class=${answering ? "coming" : "lost"}><${Markdown} text=${live.text} /></div>`}
      ${answering && !live.text && html`<p class="waiting" aria-label="Waiting for the answer"><i /><i /><i /></p>`}
      ${!answering && live.phase !== "stored" && html`<${Outcome} live=${live} />`}
    </div>
  </article>`;
}

function Comparison() {
  const { comparing, tree } = state;
  const newer = comparing && turnOf(tree, comparing.newer);
  const older = comparing && turnOf(tree, comparing.older);
  if (!newer || !older || !state.status.feedback) return null;
  const card = (
    turn,
    other,
    name,
  ) => html`<button type="button" class="card" onClick=${() => prefer(turn.id, other.id)}>
    <strong>${name}</strong><span>${turn.answer}</span></button>`;
  return html`<section class="comparison" aria-labelledby="comparison-title">
    <h2 id="comparison-title">Which answer is better?</h2>
    <div class="cards">${card(newer, older, "This answer")}${card(older, newer, "The earlier answer")}</div>
    <button type="button" class="plain" onClick=${() => change({ comparing: null })}>Skip</button>
  </section>`;
}

// After an undo or a switch to an inner turn the conversation goes on from there, or along a branch that exists.
function Later() {
  const { tree } = state;
  const later = childrenOf(tree, tree.head);
  if (later.length === 0) return null;
  return html`<div class="divider">
    <span>${later.length === 1 ? "A branch goes on from here" : `${later.length} branches go on from here`}</span>
    <button type="button" class="plain" onClick=${() => switchTo(later.at(-1).id)}>Show ${later.length === 1 ? "it" : "the newest"}</button>
    <button type="button" class="plain" onClick=${() => openPanel("branches")}>All branches</button>
  </div>`;
}

function Welcome() {
  const { status } = state;
  if (!status) return html`<div class="welcome"><p class="quiet">Connecting…</p></div>`;
  return html`<div class="welcome">
    <${Icon} name="memory" />
    <h1>What shall we talk about?</h1>
    <p>${status.model} reads each message once and keeps what it needs in a memory that does not grow beyond a fixed size.
      The memory inspector shows what it kept.</p>
  </div>`;
}

function Announcement() {
  const live = liveHere();
  const last = currentPath(state.tree).at(-1);
  const said = useRef(null);
  const [text, setText] = useState("");
  useEffect(() => {
    if (isAnswering(live)) said.current = live.parent;
    else if (said.current !== null && !live && last) setText(`Answer: ${last.answer}`);
    if (live?.phase === "waiting") setText("Waiting for the answer");
  }, [live?.phase, last?.id]);
  return html`<p class="hidden" role="status">${text}</p>`;
}

// Keeps the end in view while the reader is at the end.
function useFollow(deps) {
  const holder = useRef();
  const atEnd = useRef(true);
  const onScroll = () => {
    const { scrollHeight, scrollTop, clientHeight } = holder.current;
    atEnd.current = scrollHeight - scrollTop - clientHeight < 60;
  };
  const live = liveHere();
  useLayoutEffect(() => {
    atEnd.current = true;
  }, [state.current, live?.since]);
  useLayoutEffect(() => {
    if (atEnd.current) holder.current.scrollTop = holder.current.scrollHeight;
  }, deps);
  useEffect(() => {
    const observer = new ResizeObserver(() => {
      if (atEnd.current) holder.current.scrollTop = holder.current.scrollHeight;
    });
    observer.observe(holder.current);
    return () => observer.disconnect();
  }, []);
  return { holder, onScroll };
}

export function Chat() {
  const { tree } = state;
  const live = liveHere();
  const path = shownPath();
  const numbers = numbersOf(path);
  const forgotten = forgottenIn(path);
  const busy = isAnswering(live);
  const { holder, onScroll } = useFollow([state.current, live?.text, live?.phase, path.at(-1)?.id, state.comparing]);
  const row = (turn, index) => {
    const isLast = index === path.length - 1 && !live;
    return turn.kind === "forget"
      ? html`<${ForgetView} key=${turn.id} turn=${turn} number=${numbers.get(turn.forgotten)} busy=${busy}
      isLast=${isLast} />`
      : html`<${TurnView} key=${turn.id} turn=${turn} number=${numbers.get(turn.id)} busy=${busy} isLast=${isLast}
      isForgotten=${forgotten.has(turn.id)} />`;
  };
  return html`<div class="transcript" ref=${holder} onScroll=${onScroll} tabindex="-1">
    <div class="column">
      ${state.current && !tree && html`<p class="quiet">Loading…</p>`}
      ${!state.current && html`<${Welcome} />`}
      ${tree?.instructions && html`<details
        class="thought"><summary>Instructions</summary><div>${tree.instructions}</div></details>`}
      ${state.status && path.map(row)}
      ${live && html`<${Live} key="live" live=${live} />`}
      ${tree && !live && html`<${Later} />`}
      <${Comparison} />
    </div>
    <${Announcement} />
  </div>`;
}
