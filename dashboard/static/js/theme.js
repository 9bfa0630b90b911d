// Before anything is drawn: the theme that was chosen here, so that no page flashes in the other one.
const kept = localStorage.getItem("theme");
if (kept) document.documentElement.dataset.theme = kept;
