// Lists of tags as registries page them, or do not: all of them are found, once, by anyone who follows the pages.
import type { ServerResponse } from 'node:http';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { TagPage, Upstream } from '../../src/upstream/upstream.ts';
import { failure, json, listen, openUpstream } from './server.ts';

const TAGS = Array.from({ length: 25 }, (_, i) => `v${String(i).padStart(3, '0')}`);

/** Follows the pages as Veneer's clients do. */
async function listAll(upstream: Upstream, first: TagPage = {}): Promise<readonly string[]> {
  const all: string[] = [];
  let page: TagPage | undefined = first;
  for (let pages = 0; page; pages++) {
    if (pages > 30) throw new Error('it never ends');
    const { tags, hasMore, next }: Awaited<ReturnType<Upstream['listTags']>> = await upstream.listTags('a/b', page);
    all.push(...tags);
    if (next !== undefined) expect(next).toMatch(/^[\w.-]+$/);
    const after = next === undefined ? { last: tags.at(-1) } : { next };
    page = hasMore ? { n: first.n, ...after } : undefined;
  }
  return all;
}

type Answer = (query: URLSearchParams, res: ServerResponse, origin: string) => void;

const PATH = '/v2/a/b/tags/list';
const link = (target: string, parameters = '; rel="next"') => ({ link: `<${target}>${parameters}` });

/** Ten at a time; the next page by its number, as `name` has it. */
function byNumber(target: (query: string, origin: string) => string, parameters?: string): Answer {
  return (query, res, origin) => {
    const at = Number(query.get('p') ?? 0);
    const more = at + 10 < TAGS.length ? link(target(`p=${at + 10}`, origin), parameters) : {};
    json(res, 200, { tags: TAGS.slice(at, at + 10) }, more);
  };
}

const all: Answer = (_, res) => json(res, 200, { name: 'a/b', tags: TAGS.toReversed() });

test.each<[string, Answer]>([
  ['by words of its own', byNumber(query => `${PATH}?${query}`)],
  ['at an address of its own', byNumber((query, origin) => `${origin}${PATH}?${query}`)],
  ['at an address that only it knows', byNumber(query => `http://registry.internal:5000${PATH}?${query}`)],
  ['behind a path', byNumber(query => `/proxied${PATH}?${query}`)],
  ['by a query alone', byNumber(query => `?${query}`)],
  ['by a link without a relation', byNumber(query => `${PATH}?${query}`, '')],
  ['by a relation in capitals and without quotes', byNumber(query => `${PATH}?${query}`, ';title="x, y" ; REL=Next')],
  ['by words that a page must not lose', byNumber(query => `${PATH}?${query}&t=a%2Bb%3D%3D&n=10`)],
  ['not at all', all],
])('finds all tags of a registry that pages %s', async (_, answer) => {
  const server = await listen((req, res) => {
    const url = new URL(req.url ?? '', `http://${req.headers.host}`);
    expect(url.pathname).toBe(PATH);
    answer(url.searchParams, res, url.origin);
  });
  for (const page of [{}, { n: 10 }, { n: 3 }]) {
    expect((await listAll(openUpstream({ url: server.url }), page)).toSorted()).toEqual(TAGS);
  }
});

test('continues past a page that is empty', async () => {
  const server = await listen((req, res) =>
    req.url?.includes('p=2') ? json(res, 200, { tags: ['a'] }) : json(res, 200, { tags: null }, link(`${PATH}?p=2`)),
  );
  expect(await listAll(openUpstream({ url: server.url }))).toEqual(['a']);
});

test('pages and sorts what comes whole, however it is asked for', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(fc.stringMatching(/^[a-z0-9]{1,3}$/), { maxLength: 30 }),
      fc.integer({ min: 1, max: 10 }),
      async (tags, n) => {
        const server = await listen((_, res) => json(res, 200, { tags }));
        expect((await listAll(openUpstream({ url: server.url }), { n })).toSorted()).toEqual(tags.toSorted());
      },
    ),
    { numRuns: 20 },
  );
});

test('reads a list of many megabytes, and of its tags only those that are some', async () => {
  const manifest = Object.fromEntries(
    Array.from({ length: 60_000 }, (_, i) => [`sha256:${i}`, { tag: [`b${i}`], x: 'y'.repeat(100) }]),
  );
  const tags = Array.from({ length: 60_000 }, (_, i) => `b${i}`);
  const body = Buffer.from(
    `\ufeff ${JSON.stringify({ manifest, child: [], tags: [...tags, null, 7, 'x'.repeat(129)] })}\n`,
  );
  expect(body.byteLength).toBeGreaterThan(8_000_000);
  const server = await listen((_, res) => res.end(body));
  expect((await openUpstream({ url: server.url }).listTags('a/b', {})).tags).toEqual(tags);
});

test('takes no memory for what nests in a list, and finds the tags beside it', async () => {
  const deep = '['.repeat(4_000_000) + ']'.repeat(4_000_000);
  const server = await listen((_, res) => res.end(`{"x":${deep},"tags":["a",{"b":["c"]},"d",[{"tags":["e"]}]]}`));
  const before = process.memoryUsage().heapTotal;
  expect((await openUpstream({ url: server.url }).listTags('a/b', {})).tags).toEqual(['a', 'd']);
  expect(process.memoryUsage().heapTotal - before).toBeLessThan(200_000_000);
});

test('refuses a list beyond its limit', async () => {
  const block = Buffer.alloc(1024 * 1024, ' ');
  const server = await listen(async (_, res) => {
    for (let at = 0; at < 66 && !res.destroyed; at++)
      if (!res.write(block)) await new Promise(done => res.once('drain', done).once('close', done));
    res.end('{"tags":[]}');
  });
  const error = await failure(openUpstream({ url: server.url }).listTags('a/b', {}));
  expect(error).toMatchObject({ status: 502, message: expect.stringContaining('more than 67108864 bytes') });
});

test.each(['', '<html>', '[]', '"x"', '{"tags":["canary"', '{"tags":["a"]} x'])(
  'refuses %j, and quotes nothing of it',
  async text => {
    const server = await listen((_, res) => res.end(text));
    const error = await failure(openUpstream({ url: server.url }).listTags('a/b', {}));
    expect(error).toMatchObject({ status: 502, message: expect.stringContaining('not a list of tags') });
    expect(error.message).not.toContain('canary');
  },
);

test.each([
  ['another list', `/v2/a/other/tags/list?p=2`, 200],
  ['what is no list', '/admin?p=2', 502],
])('asks for no next page of %s', async (_, target, status) => {
  const server = await listen((req, res) =>
    req.url === PATH ? json(res, 200, { tags: ['a'] }, link(target)) : json(res, 200, { tags: ['b'] }),
  );
  const upstream = openUpstream({ url: server.url });
  const work = upstream.listTags('a/b', {}).then(({ next }) => upstream.listTags('a/b', { next }));
  if (status === 200) await work;
  else expect(await failure(work)).toMatchObject({ status });
  expect(server.requests.every(({ url }) => url?.startsWith(PATH))).toBe(true);
});

test('gives a next page to nobody who makes one up, nor for another list', async () => {
  const server = await listen((_, res) => json(res, 200, { tags: ['a'] }, link(`${PATH}?p=2`)));
  const upstream = openUpstream({ url: server.url });
  const { next = '' } = await upstream.listTags('a/b', {});
  expect(server.requests).toHaveLength(1);
  const [text, signature] = next.split('.');
  const forged = [`${Buffer.from('?ns=other').toString('base64url')}.${signature}`, text ?? '', '', '.', 'é'];
  for (const each of forged)
    expect(await failure(upstream.listTags('a/b', { next: each }))).toMatchObject({ status: 400 });
  expect(await failure(upstream.listTags('a/c', { next }))).toMatchObject({ status: 400 });
  expect(server.requests).toHaveLength(1);
});
