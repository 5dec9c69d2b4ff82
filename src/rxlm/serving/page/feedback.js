// Ratings, comparisons and better answers, stored beside the turn once the reader has agreed.

import { post } from "./api.js";
import { attempt, loadTree, moveHead, setEditor } from "./conversations.js";
import { saved } from "./saved.js";
import { ask, change, notify, state } from "./state.js";

export const CONSENT =
  "Ratings and better answers are stored on this server with the conversation, and can be exported to train models.";

async function agreed() {
  if (state.consent) return true;
  const yes = await ask({
    kind: "confirm",
    title: "Store your ratings?",
    text: `${CONSENT} Deleting the turn deletes them. You are asked only once.`,
    action: "Store my ratings",
  });
  if (!yes) return false;
  saved.set("consent", true);
  change({ consent: true });
  return true;
}

export function withdrawConsent() {
  saved.set("consent", null);
  change({ consent: false });
}

async function give(body) {
  if (!(await agreed())) return false;
  return attempt(async () => {
    await post("/v1/rxlm/feedback", body);
    await loadTree();
    return true;
  });
}

export const rate = (turn, rating) =>
  give({ response_id: turn.id, rating: turn.feedback?.rating === rating ? null : rating });

export async function saveBetterAnswer(turn, text) {
  const edit = text.trim() && text.trim() !== turn.answer.trim() ? text.trim() : null;
  if (!(await give({ response_id: turn.id, edit }))) return;
  setEditor(null);
  notify(
    edit
      ? "The better answer is stored as feedback. The memory still keeps the model's own answer."
      : "No better answer is stored.",
  );
}

export async function prefer(better, other) {
  if (!(await give({ response_id: better, better_than: other }))) return;
  change({ comparing: null });
  if (state.tree.head !== better) await attempt(() => moveHead(better));
  notify("Stored. The conversation goes on from the better answer.");
}
