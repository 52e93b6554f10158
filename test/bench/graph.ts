// The committed figures as a picture: a bar for each row, to the right where Veneer is ahead, on a logarithmic scale.
import type { Outcome } from './outcome.ts';

const TITLE = 'How many times better Veneer is than its peer, by the median of pairs';
const LABEL_WIDTH = 600;
const PLOT_WIDTH = 420;
const FIGURE_WIDTH = 70;
const ROW_HEIGHT = 20;
const TOP = 50;
/** What is further ahead or behind ends at the edge. */
const EDGE = 16;
const TICKS = [1 / 16, 1 / 4, 1 / 2, 1, 2, 4, 16];

/** An SVG document of its own, which follows the colours of the page that shows it. */
export function drawGraph(rows: readonly Outcome[]): string {
  const width = LABEL_WIDTH + PLOT_WIDTH + FIGURE_WIDTH;
  const height = TOP + rows.length * ROW_HEIGHT + 10;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<title>${TITLE}</title>
<style>
  text { fill: #24292f } .grid { stroke: #8c959f; stroke-opacity: .4 } .range { stroke: #57606a }
  .ahead { fill: #2da44e } .behind { fill: #cf222e } .even { fill: #8c959f }
  @media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .range { stroke: #b1bac4 } }
</style>
<text x="${LABEL_WIDTH}" y="16">${TITLE}</text>
${TICKS.map(tick => drawTick(tick, height)).join('\n')}
${rows.map((row, index) => drawRow(row, TOP + index * ROW_HEIGHT)).join('\n')}
</svg>
`;
}

function drawTick(times: number, height: number): string {
  const x = place(times);
  const label = times < 1 ? `1/${1 / times}` : String(times);
  return `<line class="grid" x1="${x}" y1="${TOP - 12}" x2="${x}" y2="${height - 8}"/><text x="${x}" y="${TOP - 16}" text-anchor="middle">${label}</text>`;
}

/** A bar from even to the ratio, and a line over what it may be as well: green or red only where that is on one side of even. */
function drawRow(row: Outcome, y: number): string {
  const [times, low, high] = [timesBetter(row, row.ratio), ...bounds(row)];
  const [from, to] = [Math.min(place(1), place(times)), Math.max(place(1), place(times))];
  const kind = low > 1 ? 'ahead' : high < 1 ? 'behind' : 'even';
  const peer = row.peer === 'distribution' ? '' : ` (${row.peer})`;
  return [
    `<text x="${LABEL_WIDTH - 8}" y="${y + 13}" text-anchor="end">${escapeXml(row.what + peer)}</text>`,
    `<rect class="${kind}" x="${from}" y="${y + 3}" width="${round(to - from)}" height="12"/>`,
    `<line class="range" x1="${place(low)}" y1="${y + 9}" x2="${place(high)}" y2="${y + 9}"/>`,
    `<text x="${LABEL_WIDTH + PLOT_WIDTH + 8}" y="${y + 13}">${times.toFixed(2)}</text>`,
  ].join('');
}

function bounds(row: Outcome): readonly [number, number] {
  const [a, b] = [timesBetter(row, row.low), timesBetter(row, row.high)];
  return [Math.min(a, b), Math.max(a, b)];
}

function timesBetter({ better }: Outcome, ratio: number): number {
  return better === 'higher' ? ratio : 1 / ratio;
}

function place(times: number): number {
  const share = (Math.log2(Math.min(Math.max(times, 1 / EDGE), EDGE)) / Math.log2(EDGE) + 1) / 2;
  return round(LABEL_WIDTH + share * PLOT_WIDTH);
}

function round(figure: number): number {
  return Number(figure.toFixed(1));
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
