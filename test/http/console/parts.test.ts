// What pages are made of: whatever it is given is text.

import fc from 'fast-check';
import { Hono } from 'hono';
import { expect, test } from 'vitest';
import { createShowPage } from '../../../src/http/console/layout.ts';
import {
  chip,
  copyable,
  countOf,
  digestOf,
  facts,
  live,
  note,
  sizeOf,
  table,
  timeOf,
} from '../../../src/http/console/parts.ts';

const HOSTILE = `"'><script>alert(1)</script><img src=x onerror=alert(1)>`;
const ESCAPED = '&quot;&#39;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;img src=x onerror=alert(1)&gt;';

test.each([
  ['a chip', chip('ok', HOSTILE)],
  ['a note', note('bad', HOSTILE)],
  ['a digest', digestOf(HOSTILE)],
  ['a long digest', digestOf(`sha256:${HOSTILE}`)],
  ['a table', table(HOSTILE, [HOSTILE, { name: HOSTILE, isText: true }], [[HOSTILE, chip('ok', HOSTILE)]])],
  ['an empty table', table(HOSTILE, [HOSTILE], [], HOSTILE)],
  ['a list of facts', facts({ [HOSTILE]: HOSTILE })],
  ['a text to copy', copyable(HOSTILE, HOSTILE)],
  ['a part that stays current', live(HOSTILE, 1, chip('ok', HOSTILE))],
])('%s has what others wrote as text', async (_, made) => {
  const text = String(await made);
  expect(text).not.toMatch(/<script|<img/);
  expect(text).toContain(_ === 'a long digest' ? ESCAPED.slice(6, 20) : ESCAPED);
});

test('a title and what is under it are text', async () => {
  const app = new Hono();
  const show = createShowPage({ version: HOSTILE, isOn: true });
  app.get('/', c => show(c, { title: HOSTILE, lead: HOSTILE, body: chip('ok', HOSTILE) }));
  const page = await (await app.request('/')).text();
  expect(page).not.toMatch(/<script>|<img src=x/);
  expect(page.split(ESCAPED).length - 1).toBe(5);
});

test('times are reported from now, and whole where the pointer rests', async () => {
  const now = new Date('2030-01-02T00:00:00Z');
  const shown = (iso: string) => String(timeOf(iso, now)).replace(/<[^>]*>/g, '');
  expect(shown('2030-01-01T23:59:59.500Z')).toBe('just now');
  expect(shown('2030-01-01T23:59:01Z')).toBe('59 seconds ago');
  expect(shown('2030-01-01T22:30:00Z')).toBe('1 hour ago');
  expect(shown('2030-01-05T00:00:00Z')).toBe('in 3 days');
  expect(String(timeOf('2030-01-01T22:30:00Z', now))).toContain('title="2030-01-01T22:30:00.000Z"');
});

test('digests are short, sizes and counts are for people', async () => {
  const digest = `sha256:${'0123456789abcdef'.repeat(4)}`;
  expect(String(digestOf(digest))).toBe(`<abbr class="digest" title="${digest}">sha256:0123456789ab…</abbr>`);
  expect(String(sizeOf(1536))).toBe('<span title="1536 bytes">1.5 KiB</span>');
  expect([0, 999, 1000, 1234567].map(countOf)).toEqual(['0', '999', '1\u00a0000', '1\u00a0234\u00a0567']);
});

/** The tags of a page, and the names of their attributes: what others wrote changes none of it. */
function skeletonOf(page: string): readonly string[] {
  const tags = page.match(/<[^>]*>/g) ?? [];
  return tags.map(tag => tag.replaceAll(/="[^"]*"/g, ''));
}

const hostileText = fc.oneof(
  fc.string({ unit: 'binary', minLength: 1, maxLength: 40 }),
  fc
    .array(
      fc.constantFrom(
        '<',
        '>',
        '"',
        "'",
        '&',
        '`',
        '=',
        '/',
        '-->',
        '<!--',
        ']]>',
        '</pre>',
        '<script>',
        ' onload=',
        '&quot;',
        '\0',
        'a',
      ),
      {
        minLength: 1,
        maxLength: 20,
      },
    )
    .map(parts => parts.join('')),
);

test('no text changes the tags of a page, wherever it is put', async () => {
  const app = new Hono();
  let text = '';
  const show = createShowPage({ version: '1', isOn: true });
  app.get('/', c =>
    show(c, {
      title: text,
      lead: text,
      body: [
        ...[chip('ok', text), note('bad', text), digestOf(`sha256:${text.padEnd(20, 'x')}`), copyable(text, text)],
        table(text, [text, { name: text, isText: true }], [[text, chip('ok', text)]], text),
        ...[facts({ [`k${text}`]: text }), live('id', 1, note('ok', text))],
      ],
    }),
  );
  const read = async (given: string) => {
    text = given;
    return skeletonOf(await (await app.request('/')).text());
  };
  const plain = await read('plain');
  expect(plain.length).toBeGreaterThan(40);
  await fc.assert(
    fc.asyncProperty(hostileText, async given => {
      expect(await read(given)).toEqual(plain);
    }),
    { numRuns: 300 },
  );
});
