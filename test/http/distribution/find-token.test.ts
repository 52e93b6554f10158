// Guesses of tokens: counted by network, and no hindrance for who has a token.
import { Hono } from 'hono';
import { pino } from 'pino';
import { beforeEach, expect, test } from 'vitest';
import { createFindToken } from '../../../src/http/distribution/admission.ts';
import { createErrorHandler } from '../../../src/http/middleware/errors.ts';
import { createMemory } from '../../../src/memory.ts';
import { createLedger } from '../../../src/pull/tokens/ledger.ts';
import { createMemoryStore } from '../../support/memory-records.ts';

const memory = createMemory();

/** No token here comes with a layer. */
const NO_LAYERS = { store: async () => {}, requireSpace: async () => {} };
const OLD = '0123456789ab';

type Ask = (id: string, address?: string) => Promise<Response>;

let nowMs: number;
let ask: Ask;
/** Two processes over the same records. */
let askEither: readonly [Ask, Ask];
let id: string;

beforeEach(async () => {
  nowMs = Date.parse('2026-01-02T03:04:05Z');
  const now = () => new Date(nowMs);
  const records = createMemoryStore({ now });
  const ledger = createLedger({ memory, records, layers: NO_LAYERS, now, ttlMs: 3_600_000 });
  const issued = await ledger.issue({
    registry: 'docker.io',
    repository: 'library/alpine',
    containerImage: 'alpine:3',
    augmentation: { layers: [], attestations: 'drop' },
    layerSources: [],
    request: {},
  });
  id = issued.id;
  const old = { ...issued, id: OLD };
  await records.put('token', OLD, new TextEncoder().encode(JSON.stringify(old)));
  ask = serve({ ledger, now });
  const shared = { ...records, locks: { ...records.locks, areShared: true } };
  askEither = [serve({ ledger, now, records: shared }), serve({ ledger, now, records: shared })];
});

function serve(deps: Parameters<typeof createFindToken>[0]): Ask {
  const findToken = createFindToken(deps);
  const app = new Hono();
  app.onError(createErrorHandler(pino({ level: 'silent' })));
  app.get('/:id', async c => c.text('', (await findToken(c, c.req.param('id'))) ? 200 : 404));
  return async (name, remoteAddress = '192.0.2.1') =>
    app.request(`/${name}`, {}, { incoming: { socket: { remoteAddress } } });
}

async function guess(times: number, address?: string): Promise<ReadonlySet<number>> {
  const statuses = new Set<number>();
  for (let i = 0; i < times; i++) statuses.add((await ask(i.toString(16).padStart(12, 'f'), address)).status);
  return statuses;
}

test('are refused after sixty in a minute, until that is over', async () => {
  expect(await guess(60)).toEqual(new Set([404]));
  nowMs += 59_000;
  const response = await ask('f'.repeat(24));
  expect([response.status, response.headers.get('Retry-After')]).toEqual([429, '1']);
  expect(await guess(3)).toEqual(new Set([429]));
  nowMs += 1_000;
  expect((await ask('f'.repeat(24))).status).toBe(404);
});

test('do not count where a token is right, and do not stop it from being found', async () => {
  for (let i = 0; i < 100; i++) expect((await ask(id)).status).toBe(200);
  await guess(100);
  expect((await ask(id)).status).toBe(200);
});

test('of a short token of an older version cannot go on behind a right one', async () => {
  expect((await ask(OLD)).status).toBe(200);
  await guess(60);
  expect((await ask(OLD)).status).toBe(429);
});

test.each([
  ['one address', '192.0.2.1', '::ffff:192.0.2.1', '192.0.2.2'],
  ['the addresses of one IPv6 network', '2001:db8::1', '2001:db8::ffff:2', '2001:db8:0:1::1'],
])('of %s are one budget, and others have their own', async (_, first, same, other) => {
  await guess(60, first);
  expect((await ask('f'.repeat(24), same)).status).toBe(429);
  expect((await ask('f'.repeat(24), other)).status).toBe(404);
});

test('are counted over all processes that share the records', async () => {
  const [first, second] = askEither;
  const statuses: number[] = [];
  for (let i = 0; i < 80; i++)
    statuses.push((await (i % 2 === 0 ? first : second)(i.toString(16).padStart(12, 'f'))).status);
  expect(statuses.filter(status => status === 404)).toHaveLength(60);
  for (const each of askEither) {
    const refused = await each('f'.repeat(24));
    expect([refused.status, refused.headers.get('Retry-After')]).toEqual([429, '60']);
    expect([(await each(OLD)).status, (await each(id)).status]).toEqual([429, 200]);
  }
  nowMs += 60_000;
  for (const each of askEither) expect((await each('f'.repeat(24))).status).toBe(404);
});
