// The key `events`.
import { expect, test } from 'vitest';
import { eventsSchema } from '../../src/config/services-schema.ts';

const schema = eventsSchema({ URL: 'https://user:hunter2@hook.example/a', AUTHORIZATION: 'Bearer hunter2' });
const endpoint = { name: 'hook', url: 'http://127.0.0.1:9000/' };
const parse = (more: object) => schema.parse({ endpoints: [{ ...endpoint, ...more }] });

test('an endpoint has defaults', () => {
  expect(parse({}).endpoints).toEqual([
    {
      name: 'hook',
      url: new URL(endpoint.url),
      headers: {},
      on: ['push', 'delete', 'build', 'damaged'],
      repositories: ['**'],
      timeoutMs: 10_000,
      retries: 15,
    },
  ]);
});

test('address and headers are secrets', () => {
  const [read] = parse({ url: { env: 'URL' }, headers: { Authorization: { env: 'AUTHORIZATION' } } }).endpoints;
  expect(read?.url.password).toBe('hunter2');
  expect(read?.headers).toEqual({ Authorization: 'Bearer hunter2' });
});

test('two endpoints have two names', () => {
  expect(() => schema.parse({ endpoints: [endpoint, endpoint] })).toThrow(/same name/);
});

test.each([
  ['a name with a slash', { name: 'a/b' }, /expected letters/],
  ['an address of another kind', { url: 'ftp://hook.example' }, /url/],
  ['a header that is of the connection', { headers: { 'Content-Length': '1' } }, /other than those that HTTP sets/],
  ['a header that is none', { headers: { 'a b': '1' } }, /header name/],
  ['a header of two lines', { headers: { A: 'a\r\nB: b' } }, /one line/],
  ['an action that is none', { on: ['purge'] }, /push/],
  ['no action at all', { on: [] }, /on/],
  ['no repository at all', { repositories: [] }, /repositories/],
  ['a time-out of nothing', { timeout: '0s' }, /too small/],
  ['retries without end', { retries: 1001 }, /1000/],
])('%s is a fault', (_, more, message) => {
  expect(() => parse(more)).toThrow(message);
});

test('no fault quotes a secret', () => {
  const faults = schema.safeParse({ endpoints: [{ ...endpoint, url: 'hunter2', headers: { A: 'hunter2\n' } }] });
  expect(faults.error?.issues.length).toBeGreaterThan(0);
  expect(String(faults.error)).not.toContain('hunter2');
});
