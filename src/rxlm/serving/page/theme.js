// Sets light or dark before the first paint; without a choice the system's is taken.
try {
  const theme = localStorage.getItem("rxlm.theme");
  if (theme) document.documentElement.dataset.theme = JSON.parse(theme);
} catch {
  // Storage is forbidden in this browser: the system's colours are used.
}
