// The style sheet of all pages, for light and dark, narrow and wide screens. No page has styles of its own.
export const STYLE = `
:root {
  color-scheme: light dark;
  --page: #f5f5f2;
  --surface: #ffffff;
  --sunken: #f0f0ec;
  --line: #dcddd6;
  --ink: #1e2226;
  --muted: #565f68;
  --accent: #0b5a62;
  --accent-ink: #ffffff;
  --ok: #e1f0e4;
  --ok-ink: #1a5629;
  --warn: #faedd0;
  --warn-ink: #6a4600;
  --bad: #fae3e0;
  --bad-ink: #8a1c16;
  --info: #e0edf5;
  --info-ink: #1b4a6c;
  --quiet: #e9e9e4;
  --quiet-ink: #4a525a;
  --added: #e6f3e8;
  --removed: #fbe9e7;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", "DejaVu Sans Mono", monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131619;
    --surface: #1a1e22;
    --sunken: #15181c;
    --line: #2f353b;
    --ink: #e3e6e9;
    --muted: #9ca6af;
    --accent: #74c7cc;
    --accent-ink: #0d2224;
    --ok: #17361f;
    --ok-ink: #97d8a5;
    --warn: #3c2f10;
    --warn-ink: #ecc878;
    --bad: #43201d;
    --bad-ink: #f3aba4;
    --info: #17324a;
    --info-ink: #a3cdec;
    --quiet: #292e33;
    --quiet-ink: #b4bcc4;
    --added: #16301d;
    --removed: #3a1f1d;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 4rem; }
body {
  margin: 0;
  background: var(--page);
  color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
a { color: var(--accent); text-underline-offset: 0.15em; text-decoration-thickness: 1px; }
a:hover { text-decoration-thickness: 2px; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 0.3rem; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.08rem; line-height: 1.3; margin: 2.2rem 0 0.7rem; }
h3 { font-size: 0.95rem; margin: 1.4rem 0 0.5rem; }
p { margin: 0.5rem 0; max-width: 46rem; }
code, pre, kbd, .mono { font-family: var(--mono); font-size: 0.87em; }
code { overflow-wrap: anywhere; }
.lead, .muted { color: var(--muted); }
.lead { margin: 0 0 1.4rem; }
h1:not(:has(+ .lead)) { margin-bottom: 1.2rem; }
.small { font-size: 0.87rem; }
.skip { position: absolute; left: -99rem; }
.skip:focus { left: 0.5rem; top: 0.5rem; z-index: 3; background: var(--surface); padding: 0.4rem 0.8rem; }

.top {
  display: flex; flex-wrap: wrap; align-items: center; gap: 0.4rem 1rem;
  padding: 0.6rem 1.5rem; border-bottom: 1px solid var(--line); background: var(--surface);
}
.brand { display: flex; align-items: center; gap: 0.55rem; font-weight: 650; font-size: 1.05rem; color: var(--ink); text-decoration: none; }
.brand img { width: 22px; height: 22px; display: block; }
.who { margin-left: auto; display: flex; flex-wrap: wrap; align-items: center; gap: 0.75rem; }
.who form { display: inline; }
.frame { display: grid; grid-template-columns: 12.5rem minmax(0, 1fr); max-width: 92rem; }
.menu { padding: 1.4rem 0.5rem 1rem 0.75rem; }
.menu ul { list-style: none; margin: 0; padding: 0; display: flex; flex-direction: column; gap: 2px; position: sticky; top: 1rem; }
.menu a { display: block; padding: 0.38rem 0.75rem; border-radius: 6px; color: var(--ink); text-decoration: none; }
.menu a:hover { background: var(--quiet); }
.menu a[aria-current] { background: var(--quiet); font-weight: 600; box-shadow: inset 3px 0 0 var(--accent); }
main { padding: 1.6rem 1.75rem 3rem; min-width: 0; }
.foot { padding: 1rem 1.75rem 2rem; color: var(--muted); font-size: 0.87rem; }

.card { background: var(--surface); border: 1px solid var(--line); border-radius: 8px; padding: 1rem 1.15rem; margin: 0 0 1rem; }
.card.narrow { max-width: 28rem; }
.card > :first-child { margin-top: 0; }
.card > :last-child { margin-bottom: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: 0.9rem; margin: 0 0 1rem; }
.tile { background: var(--surface); border: 1px solid var(--line); border-radius: 8px; padding: 0.85rem 1.1rem; }
.tile dt { color: var(--muted); font-size: 0.87rem; }
.tile dd { margin: 0; }
.tile .figure { font-size: 1.65rem; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; letter-spacing: -0.02em; }
.pair { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 1rem; }

.scroll { overflow-x: auto; background: var(--surface); border: 1px solid var(--line); border-radius: 8px; margin: 0 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: 0.5rem 0.9rem; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--muted); font-weight: 600; font-size: 0.82rem; white-space: nowrap; background: var(--sunken); }
tbody:first-child tr:first-child > *, caption + tbody tr:first-child > * { border-top: 0; }
tbody th { font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.wrap { overflow-wrap: anywhere; min-width: 14rem; }
td.nowrap, th.nowrap { white-space: nowrap; }
caption { text-align: left; padding: 0.6rem 0.9rem; font-weight: 600; }
.empty { padding: 1rem 1.15rem; color: var(--muted); background: var(--surface); border: 1px dashed var(--line); border-radius: 8px; margin: 0 0 1rem; }

dl.facts { display: grid; grid-template-columns: minmax(8rem, max-content) minmax(0, 1fr); gap: 0.35rem 1.4rem; margin: 0; }
dl.facts dt { color: var(--muted); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }

.chip {
  display: inline-block; padding: 0.08rem 0.6rem; border-radius: 99px; font-size: 0.82rem; font-weight: 600; white-space: nowrap;
  background: var(--quiet); color: var(--quiet-ink);
}
.chip.ok { background: var(--ok); color: var(--ok-ink); }
.chip.warn { background: var(--warn); color: var(--warn-ink); }
.chip.bad { background: var(--bad); color: var(--bad-ink); }
.chip.info { background: var(--info); color: var(--info-ink); }
.note { border-left: 4px solid var(--line); background: var(--surface); padding: 0.7rem 1rem; border-radius: 0 8px 8px 0; margin: 0 0 1rem; overflow-wrap: anywhere; }
.note.ok { border-color: var(--ok-ink); }
.note.warn { border-color: var(--warn-ink); }
.note.bad { border-color: var(--bad-ink); }
.note.info { border-color: var(--info-ink); }
.note ul { margin: 0.4rem 0 0; padding-left: 1.1rem; }

pre {
  margin: 0; padding: 0.85rem 1rem; overflow: auto; white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4;
  background: var(--sunken); border: 1px solid var(--line); border-radius: 8px; line-height: 1.45;
}
pre.log { max-height: 34rem; }
pre.steps { background: none; border: 0; padding: 0 0 0.5rem; color: var(--muted); }
.copy { position: relative; margin: 0 0 1rem; }
.copy > button { position: absolute; top: 0.4rem; right: 0.4rem; }
.copy > pre { padding-right: 5rem; }
.digest { font-family: var(--mono); font-size: 0.87em; white-space: nowrap; }
abbr.digest, time { text-decoration: none; cursor: help; }
time { cursor: help; white-space: nowrap; }
.traits { white-space: nowrap; }
meter, progress { width: 100%; height: 0.55rem; display: block; margin: 0.45rem 0 0.25rem; }

label { font-weight: 600; display: block; margin: 0 0 0.25rem; }
.hint { color: var(--muted); font-size: 0.87rem; margin: 0.25rem 0 0; }
.field { margin: 0 0 1.1rem; max-width: 46rem; }
input:not([type="checkbox"], [type="radio"]), select, textarea {
  width: 100%; font: inherit; color: inherit; background: var(--surface);
  border: 1px solid #83898f; border-radius: 6px; padding: 0.42rem 0.65rem;
}
textarea { min-height: 4.6rem; resize: vertical; }
#build-file { min-height: 16rem; }
textarea, input.mono { font-family: var(--mono); font-size: 0.9em; }
fieldset { border: 0; padding: 0; margin: 0 0 1.1rem; }
legend { font-weight: 600; padding: 0; margin: 0 0 0.35rem; }
.choices { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; }
.choices label { font-weight: 400; display: flex; gap: 0.4rem; align-items: baseline; margin: 0; }
.inline { display: flex; flex-wrap: wrap; gap: 0.75rem; align-items: end; margin: 0 0 1.2rem; }
.inline .field { margin: 0; flex: 1 1 16rem; }
.inline .field.short { flex: 0 1 11rem; }
button, .button {
  font: inherit; font-weight: 600; padding: 0.42rem 1rem; border-radius: 6px; border: 1px solid transparent; cursor: pointer;
  background: var(--accent); color: var(--accent-ink); text-decoration: none; display: inline-block;
}
button:hover, .button:hover { filter: brightness(1.12); }
button.plain, .button.plain { background: var(--surface); color: var(--ink); border-color: #83898f; }
button.danger { background: var(--bad-ink); color: var(--surface); }
button.little, .button.little { font-size: 0.82rem; padding: 0.16rem 0.6rem; }
button.link { background: none; border: 0; color: var(--accent); padding: 0; font-weight: 400; text-decoration: underline; text-underline-offset: 0.15em; }
.actions a[aria-current] { border-color: var(--accent); color: var(--accent); }
.actions { display: flex; flex-wrap: wrap; gap: 0.75rem; align-items: center; margin: 0 0 1.2rem; }
details.confirm { display: inline-block; }
details.confirm > summary { list-style: none; cursor: pointer; color: var(--accent); text-decoration: underline; text-underline-offset: 0.15em; }
details.confirm > summary::-webkit-details-marker { display: none; }
details.confirm[open] > summary { color: var(--muted); }
details.confirm form { margin: 0.4rem 0 0; }
details.more { margin: 0 0 1rem; }
details.more > summary { cursor: pointer; font-weight: 600; margin: 0 0 0.5rem; }
td a[aria-current] { color: inherit; font-weight: 600; text-decoration: none; }
.pair h3:first-child { margin-top: 0; }
tr.added > * { background: var(--added); }
tr.removed > * { background: var(--removed); }

@media (max-width: 60rem) {
  .frame { display: block; }
  .menu { padding: 0.5rem 0.6rem; border-bottom: 1px solid var(--line); background: var(--surface); }
  .menu ul { flex-direction: row; flex-wrap: wrap; position: static; }
  .menu a { padding: 0.3rem 0.6rem; }
  .menu a[aria-current] { box-shadow: inset 0 -3px 0 var(--accent); border-radius: 6px 6px 0 0; }
  .top { padding: 0.6rem 1rem; }
  main { padding: 1.2rem 1rem 2rem; }
  .foot { padding: 1rem; }
  .pair { grid-template-columns: minmax(0, 1fr); }
}
@media (max-width: 34rem) {
  dl.facts { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dl.facts dd { margin-bottom: 0.6rem; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 0.6rem; }
  .tile { padding: 0.7rem 0.85rem; }
  .tile .figure { font-size: 1.35rem; }
  table, tbody, tr { display: block; }
  thead { position: absolute; left: -99rem; }
  tbody tr { padding: 0.6rem 0.9rem; border-top: 1px solid var(--line); }
  tbody tr:first-child { border-top: 0; }
  td, td.number { display: block; position: relative; padding: 0.12rem 0 0.12rem 7.5rem; border: 0; text-align: left; white-space: normal; overflow-wrap: anywhere; }
  td::before { content: attr(data-name); position: absolute; left: 0; width: 7rem; color: var(--muted); font-size: 0.87rem; }
  td.wrap { min-width: 0; }
  h1 { font-size: 1.35rem; }
}
@media (prefers-reduced-motion: no-preference) {
  .menu a, button { transition: background-color 0.12s, filter 0.12s; }
}
`;

/** The icon of the browser tab and the page head: a sheet of veneer over two others. */
export const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
<path d="M16 14 3 20.5 16 27l13-6.500z" fill="#8f9aa3"/>
<path d="M16 9.500 3 16l13 6.500L29 16z" fill="#4c8d92"/>
<path d="M16 4 3 10.500 16 17l13-6.500z" fill="#c58b4b"/>
</svg>
`;
