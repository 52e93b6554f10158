// Components of pages: chips, digests, times, tables. Everything is text until `html` has escaped it.
import { html } from 'hono/html';
import { formatSize } from '../../oci/wording.ts';

export type Html = ReturnType<typeof html>;

export type Tone = 'ok' | 'warn' | 'bad' | 'info' | 'quiet';

export function chip(tone: Tone, text: string): Html {
  return html`<span class="chip ${tone}">${text}</span>`;
}

/** `tone` expresses the severity; the first line is the message. */
export function note(tone: Tone, body: Html | string): Html {
  return html`<div class="note ${tone}">${body}</div>`;
}

const SHOWN_HEX = 12;

/** Truncated, with the whole digest as a tooltip. */
export function digestOf(digest: string): Html {
  const [algorithm = '', hex = ''] = digest.split(':');
  if (hex.length <= SHOWN_HEX) return html`<span class="digest">${digest}</span>`;
  return html`<abbr class="digest" title="${digest}">${algorithm}:${hex.slice(0, SHOWN_HEX)}…</abbr>`;
}

const UNITS: readonly (readonly [name: string, ms: number])[] = [
  ['day', 86_400_000],
  ['hour', 3_600_000],
  ['minute', 60_000],
  ['second', 1000],
];

/** Such as `3 minutes ago` or `in 2 hours`, with the exact time as a tooltip. */
export function timeOf(instant: Date | string, now: Date): Html {
  const date = new Date(instant);
  const iso = date.toISOString();
  return html`<time datetime="${iso}" title="${iso}">${describeDistance(date.getTime() - now.getTime())}</time>`;
}

function describeDistance(ms: number): string {
  const distance = Math.abs(ms);
  const [name, unitMs] = UNITS.find(([, each]) => distance >= each) ?? ['second', 1000];
  const count = Math.floor(distance / unitMs);
  if (count === 0) return 'just now';
  const amount = `${count} ${name}${count === 1 ? '' : 's'}`;
  return ms < 0 ? `${amount} ago` : `in ${amount}`;
}

export function sizeOf(bytes: number): Html {
  return html`<span title="${bytes} bytes">${formatSize(bytes)}</span>`;
}

/** With separated thousands: `1 234 567`. */
export function countOf(count: number): string {
  return count.toLocaleString('en').replaceAll(',', '\u00a0');
}

type Cell = Html | string | number | undefined;

interface Column {
  readonly name: string;
  readonly isNumber?: boolean;
  /** Long texts are broken anywhere. */
  readonly isText?: boolean;
}

/**
 * The roles are for narrow screens, where rows are shown as cards and browsers drop the table semantics. `name` is the accessible name;
 * `empty` is shown in its place where there are no rows.
 */
export function table(
  name: string,
  columns: readonly (Column | string)[],
  rows: readonly (readonly Cell[])[],
  empty: Html | string = 'None.',
): Html {
  if (rows.length === 0) return html`<p class="empty">${empty}</p>`;
  const described = columns.map(column => (typeof column === 'string' ? { name: column } : column));
  const classOf = ({ isNumber, isText }: Omit<Column, 'name'> = {}) => (isNumber ? 'number' : isText ? 'wrap' : '');
  const heads = described.map(
    column => html`<th scope="col" role="columnheader" class="${classOf(column)}">${column.name}</th>`,
  );
  const lines = rows.map(
    cells =>
      html`<tr role="row">${cells.map((cell, at) => html`<td role="cell" class="${classOf(described[at])}" data-name="${described[at]?.name}">${cell}</td>`)}</tr>\n`,
  );
  return html`<div class="scroll" role="region" aria-label="${name}" tabindex="0"><table role="table">
<thead role="rowgroup"><tr role="row">${heads}</tr></thead>
<tbody role="rowgroup">
${lines}</tbody>
</table></div>`;
}

/** A list of names and values; undefined values are omitted. */
export function facts(entries: Readonly<Record<string, Cell>>): Html {
  const known = Object.entries(entries).filter(([, value]) => value !== undefined && value !== '');
  return html`<dl class="facts">${known.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>\n`)}</dl>`;
}

/** A text with a copy button; `what` names it, as in "Copy the curl command". */
export function copyable(what: string, text: string): Html {
  return html`<div class="copy" data-what="${what}"><pre tabindex="0" aria-label="${what}">${text}</pre></div>`;
}

/** A region that is refreshed while the page is open, every `seconds`; undefined once nothing will change. */
export function live(id: string, seconds: number | undefined, body: Html | readonly Html[]): Html {
  return html`<div id="${id}" data-live="${seconds ?? ''}">${body}</div>`;
}
