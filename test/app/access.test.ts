// Rights through the whole app: what was not granted is refused, on every route, for every kind of caller.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { findOpenRoutes } from '../access/open-routes.ts';
import { makeContent, makeIndex } from '../conformance/documents.ts';
import { type Answer, codeOf, type Sent } from '../support/server.ts';
import { ADMIN, callers, type GuardedServer, RIGHTS, startGuarded } from './callers.ts';

const index = makeIndex([]);
const blob = makeContent('a blob', '');
const more = makeContent('another blob', '');
const manifest: Sent = { headers: { 'Content-Type': index.mediaType }, body: index.raw };

let server: GuardedServer;
/** An upload of local/app that is under way. */
let upload: string;

beforeAll(async () => {
  server = await startGuarded({ upstreams: { lab: { url: 'http://127.0.0.1:1' } } });
});

afterAll(() => server.close());

beforeEach(async () => {
  await asAdmin('PUT', '/v2/local/app/manifests/1', manifest);
  await asAdmin('POST', `/v2/local/app/blobs/uploads/?digest=${blob.digest}`, { body: blob.raw });
  const { headers } = await asAdmin('POST', '/v2/local/app/blobs/uploads/');
  upload = String(headers.location);
});

/** What each route does, and the status of doing it. UPLOAD stands for the path of an upload. */
const ROUTES = [
  ['pull', 'GET', '/v2/local/app/manifests/1', 200],
  ['pull', 'HEAD', '/v2/local/app/manifests/1', 200],
  ['pull', 'GET', `/v2/local/app/manifests/${index.digest}`, 200],
  ['pull', 'HEAD', `/v2/local/app/manifests/${index.digest}`, 200],
  ['pull', 'GET', `/v2/local/app/blobs/${blob.digest}`, 200],
  ['pull', 'HEAD', `/v2/local/app/blobs/${blob.digest}`, 200],
  ['pull', 'GET', '/v2/local/app/tags/list', 200],
  ['pull', 'GET', `/v2/local/app/referrers/${index.digest}`, 200],
  ['push', 'POST', '/v2/local/app/blobs/uploads/', 202],
  ['push', 'POST', '/v2/local/app/blobs/uploads', 202],
  ['push', 'POST', `/v2/local/app/blobs/uploads/?digest=${more.digest}`, 201],
  ['push', 'POST', `/v2/local/app/blobs/uploads/?mount=${blob.digest}`, 201],
  ['push', 'GET', 'UPLOAD', 204],
  ['push', 'PATCH', 'UPLOAD', 202],
  ['push', 'PUT', `UPLOAD?digest=${more.digest}`, 201],
  ['push', 'DELETE', 'UPLOAD', 204],
  ['push', 'PUT', '/v2/local/app/manifests/2', 201],
  ['push', 'PUT', `/v2/local/app/manifests/${index.digest}`, 201],
  ['delete', 'DELETE', '/v2/local/app/manifests/1', 202],
  ['delete', 'DELETE', `/v2/local/app/manifests/${index.digest}`, 202],
  ['delete', 'DELETE', `/v2/local/app/blobs/${blob.digest}`, 202],
] as const;

describe.each(callers)('$user with $by', caller => {
  const rights = RIGHTS[caller.user] ?? [];

  test.each(ROUTES)('to %s: %s %s', async (verb, method, path, status) => {
    const authorization = await server.authorizationOf(caller, 'repository:local/app:pull,push,delete');
    const answer = await ask(method, path, authorization);
    if (rights.includes(verb)) return expect(answer.status).toBe(status);
    expectRefused(answer, { method, verb, isKnown: caller.by !== 'no credentials' });
    expect((await asAdmin('HEAD', '/v2/local/app/manifests/1')).status).toBe(200);
    expect((await asAdmin('HEAD', `/v2/local/app/blobs/${blob.digest}`)).status).toBe(200);
    expect((await asAdmin('GET', upload)).headers.range).toBe('0-0');
  });

  test.each(ROUTES)('may nothing elsewhere: %s %s %s', async (verb, method, path) => {
    const authorization = await server.authorizationOf(caller, 'repository:local/other:pull,push,delete');
    const answer = await ask(method, path.replace('local/app', 'local/other'), authorization, 'local/other');
    expectRefused(answer, { method, verb, isKnown: caller.by !== 'no credentials' });
  });
});

test('no route answers without a right', async () => {
  const empty = await startGuarded({ access: {} });
  const { routes, fetch } = empty.app;
  const asked: string[] = [];
  async function request(path: unknown, init?: RequestInit): Promise<Response> {
    const response = await fetch(new Request(new URL(String(path), 'http://127.0.0.1'), init));
    asked.push(`${init?.method} ${path}`);
    // Middleware stands before methods that no route has.
    const isRoute = !(await response.clone().text()).includes('there is no such route');
    return isRoute ? response : Response.json({}, { status: 401, headers: { 'WWW-Authenticate': 'none' } });
  }
  expect(await findOpenRoutes({ routes, request })).toEqual([]);
  expect(asked).toEqual(expect.arrayContaining(['GET /v2/_catalog', 'PUT /v2/local/app/manifests/latest']));
  await empty.close();
});

test.each([
  ['an upstream', 'lab/team/app'],
  ['the default upstream', 'library/alpine'],
  ['a token', 'wt/0123456789ab/library/app'],
])('nothing is pushed to %s, by nobody', async (_, name) => {
  for (const [method, path] of [
    ['POST', '/blobs/uploads/'],
    ['PUT', '/manifests/1'],
    ['DELETE', '/manifests/1'],
    ['DELETE', `/blobs/${blob.digest}`],
  ] as const) {
    const answer = await asAdmin(method, `/v2/${name}${path}`, method === 'PUT' ? manifest : {});
    expect([method, path, answer.status, codeOf(answer)]).toEqual([method, path, 405, 'UNSUPPORTED']);
  }
});

test('an upload is of its own repository, regardless of who asks', async () => {
  const elsewhere = upload.replace('local/app', 'local/other');
  for (const method of ['GET', 'PATCH', 'DELETE']) {
    const answer = await asAdmin(method, elsewhere);
    expect([answer.status, codeOf(answer)]).toEqual([404, 'BLOB_UPLOAD_UNKNOWN']);
  }
  expect((await asAdmin('GET', upload)).status).toBe(204);
});

/** UPLOAD becomes the path of the upload; where the route needs a body, it has one. */
function ask(method: string, path: string, authorization?: string, name = 'local/app'): Promise<Answer> {
  const isManifest = method === 'PUT' && path.includes('/manifests/');
  const isMore = path.includes(`digest=${more.digest}`);
  const { headers, body } = isManifest ? manifest : isMore ? { body: more.raw } : {};
  return server.send(method, path.replace('UPLOAD', upload.replace('local/app', name)), {
    headers: { ...headers, ...(authorization && { Authorization: authorization }) },
    ...(body && { body }),
  });
}

function asAdmin(method: string, path: string, { headers, body }: Sent = {}): Promise<Answer> {
  return server.send(method, path, { headers: { ...headers, Authorization: ADMIN }, ...(body && { body }) });
}

interface Refusal {
  readonly method: string;
  readonly verb: string;
  /** Who is known gets a plain no, and anyone else is told how to log in. */
  readonly isKnown: boolean;
}

function expectRefused(answer: Answer, { method, verb, isKnown }: Refusal): void {
  expect([answer.status, isKnown]).toEqual([isKnown ? 403 : 401, isKnown]);
  if (method !== 'HEAD') expect(codeOf(answer)).toBe(isKnown ? 'DENIED' : 'UNAUTHORIZED');
  const challenge = answer.headers['www-authenticate'] ?? '';
  if (isKnown) expect(challenge).toBe('');
  else
    expect(challenge).toMatch(new RegExp(`^Bearer realm=".*/token",.*scope="repository:local/[a-z]+:[a-z,]*${verb}"`));
}
