// The turns of a conversation as a tree. Pure functions of `tree` (GET /v1/rxlm/conversations/ID/tree).

export const turnOf = (tree, id) => tree?.turns.find((turn) => turn.id === id) ?? null;

export const childrenOf = (tree, id) => (tree ? tree.turns.filter((turn) => turn.parent === id) : []);

// The turns from the first one to `id`: the branch that ends there.
export function pathTo(tree, id) {
  const path = [];
  for (let turn = turnOf(tree, id); turn; turn = turnOf(tree, turn.parent)) path.unshift(turn);
  return path;
}

export const currentPath = (tree) => (tree ? pathTo(tree, tree.head) : []);

// All turns after `id`, in every branch. Parents come before children, so one pass is enough.
export function descendantsOf(tree, id) {
  const found = new Set([id]);
  return tree.turns.filter((turn) => turn.parent !== null && found.has(turn.parent) && found.add(turn.id));
}

// Where a branch goes on: its newest turn without later turns.
export function newestLeaf(tree, id) {
  const leaves = [turnOf(tree, id), ...descendantsOf(tree, id)].filter(
    (turn) => childrenOf(tree, turn.id).length === 0,
  );
  return leaves.reduce((newest, turn) => (turn.created_at >= newest.created_at ? turn : newest)).id;
}

// Numbers of the turns of a path, from 1; what was forgotten is no turn and has none.
export function numbersOf(path) {
  const numbers = new Map();
  for (const turn of path) if (turn.kind === "turn") numbers.set(turn.id, numbers.size + 1);
  return numbers;
}

// A step of a branch in words; numbers: numbersOf(path).
export function nameOf(turn, numbers) {
  if (turn.kind === "turn") return `turn ${numbers.get(turn.id)}`;
  return `forgetting turn ${numbers.get(turn.forgotten) ?? ""}`;
}

export const forgottenIn = (path) => new Set(path.map((turn) => turn.forgotten).filter(Boolean));

export function titleOf(conversation) {
  return conversation?.metadata?.title || "Untitled conversation";
}

export function shortened(text, length) {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > length ? `${line.slice(0, length - 1).trimEnd()}…` : line;
}
