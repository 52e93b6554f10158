// The rules, told by the API: what it says of an image is what a pull gets, and nobody hears more than they may.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Explanation, explanationSchema, type RuleList, ruleListSchema } from '../../../src/rules/explanation.ts';
import { basic, htpasswdOf } from '../../access/fixture.ts';
import { makeTar, PLATFORMS, startApp, type TestApp } from '../../support/app.ts';

const NAME = 'lab/library/app';
const IMAGE = `${NAME}:1`;
const RULE = { name: 'audit', match: { image: '**' }, env: { RULED: 'yes' } };

let app: TestApp;

beforeEach(async () => {
  app = await startApp();
  app.putImage();
});

afterEach(() => app.close());

type Query = Readonly<Record<string, string>>;

async function explain(query: Query, user?: string): Promise<Explanation> {
  const response = await ask(`/v1/rules/explain?${new URLSearchParams(query)}`, user);
  expect(response.headers.get('cache-control')).toBe('no-store');
  const body = await response.json();
  const told = explanationSchema.parse(body);
  expect([response.status, body]).toEqual([200, told]);
  return told;
}

async function list(user?: string): Promise<RuleList> {
  const body = await (await ask('/v1/rules', user)).json();
  expect(ruleListSchema.parse(body)).toEqual(body);
  return ruleListSchema.parse(body);
}

function ask(path: string, user?: string): Promise<Response> {
  return app.request(path, { headers: user === undefined ? {} : { Authorization: basic(user, 'password') } });
}

async function messageOf(query: string, user?: string): Promise<readonly [status: number, message: string]> {
  const response = await ask(`/v1/rules/explain${query}`, user);
  return [response.status, Object(await response.json()).message];
}

describe('an explanation', () => {
  test('says what a pull gets, for every platform and by the digests that it gets', async () => {
    const file = join(app.directory, 'tool.tar');
    await writeFile(file, await makeTar('opt/tool', 'a tool'));
    await app.configure({
      rules: [RULE, { name: 'tool', match: RULE.match, layers: [{ file, platforms: ['linux/arm64'] }] }],
    });
    const told = await explain({ image: IMAGE });
    const { digest } = await app.head(NAME, '1');
    expect(told).toMatchObject({ image: IMAGE, outcome: 'changed', digest });
    const { manifests } = JSON.parse(await (await ask(`/v2/${NAME}/manifests/1`)).text());
    expect(told.platforms.map(each => each.digest)).toEqual(manifests.map((entry: { digest: string }) => entry.digest));
    expect(told.platforms.map(each => each.platform)).toEqual(PLATFORMS);
    const [amd64, arm64] = told.platforms;
    expect(amd64?.layers).toEqual([]);
    expect(arm64?.layers).toEqual([expect.objectContaining({ rule: 'tool', from: `file ${file}` })]);
    const { layers } = JSON.parse(await (await ask(`/v2/${NAME}/manifests/${arm64?.digest}`)).text());
    expect(layers.at(-1)).toMatchObject({ digest: arm64?.layers[0]?.digest, size: arm64?.layers[0]?.size });
  });

  test('changes nothing: no digest is known by it that no tag led to', async () => {
    await app.configure({ rules: [RULE] });
    const { digest } = await explain({ image: IMAGE });
    expect((await ask(`/v2/${NAME}/manifests/${digest}`)).status).toBe(404);
    expect((await app.head(NAME, '1')).digest).toBe(digest);
    expect(await explain({ image: `${NAME}@${digest}` })).toMatchObject({ outcome: 'changed', pinned: 'made', digest });
  });

  test('says that nothing matches', async () => {
    await app.configure({ rules: [{ ...RULE, match: { image: 'quay.io/**' } }] });
    const { outcome, reason, digest, sourceDigest } = await explain({ image: IMAGE });
    expect([outcome, reason, digest]).toEqual(['unchanged', 'no rule matches it', sourceDigest]);
    expect((await app.head(NAME, '1')).digest).toBe(sourceDigest);
  });

  test('is of one platform alone where one is asked for', async () => {
    await app.configure({ rules: [RULE] });
    const { platforms } = await explain({ image: IMAGE, platform: 'aarch64' });
    expect(platforms.map(({ platform }) => platform)).toEqual(['linux/arm64']);
    const [status, message] = await messageOf(`?image=${IMAGE}&platform=linux/s390x`);
    expect([status, message]).toEqual([400, expect.stringContaining(`${IMAGE}: no image for linux/s390x; there is`)]);
  });

  test('says what becomes of a pinned digest, as a pull finds', async () => {
    const { digest } = await app.head(NAME, '1');
    for (const pinned of ['untouched', 'refused']) {
      await app.configure({ rules: [{ ...RULE, pinned }] });
      const { outcome } = await explain({ image: `${NAME}@${digest}` });
      const { status } = await ask(`/v2/${NAME}/manifests/${digest}`);
      expect([pinned, outcome, status]).toEqual(
        pinned === 'refused' ? [pinned, 'refused', 403] : [pinned, 'unchanged', 200],
      );
    }
  });

  test.each([
    ['', 'image: must be given'],
    ['?image=', 'image: is empty'],
    ['?image=a&image=b', 'image: is given more than once'],
    [`?image=${'a'.repeat(513)}`, 'image: has more than 512 characters'],
    ['?image=UPPER', 'image: invalid repository name "UPPER"'],
    ['?image=docker://a', 'image: an image name takes no prefix such as docker://'],
    [
      '?image=wt/0123456789ab/library/app:1',
      'image: an image of a token keeps the rules that were active when it was issued',
    ],
    [
      '?image=127.0.0.1:8080/wt/0123456789ab/library/app:1',
      'image: an image of a token keeps the rules that were active when it was issued',
    ],
    ['?image=a&platform=x%20y', 'platform: "x y" is not a platform'],
    ['?image=a&caller=', 'caller: is empty'],
    ['?image=a&callers=b', 'Unrecognized key: "callers"'],
    [`?image=${NAME}:gone`, `${NAME}:gone: `],
    ['?image=127.0.0.2:1/a', '127.0.0.2:1/a: '],
  ])('of %s is refused by name', async (query, message) => {
    const asked = app.registry.requests.length;
    expect(await messageOf(query)).toEqual([400, expect.stringContaining(message)]);
    if (query.includes('wt/')) expect(app.registry.requests).toHaveLength(asked);
  });
});

describe('callers', () => {
  const rules = [
    { ...RULE, match: { image: '**', caller: 'ada' } },
    { name: 'strangers', match: { image: '**', caller: 'anonymous' }, user: 'nobody' },
  ];

  let access: object;

  beforeEach(async () => {
    const htpasswd = join(app.directory, 'htpasswd');
    const users = ['ada', 'bob', 'ops'];
    await writeFile(htpasswd, htpasswdOf(Object.fromEntries(users.map(user => [user, 'password']))));
    const grants = [
      { users: ['ada'], repositories: ['lab/**'], allow: ['pull'] },
      { users: ['bob'], repositories: ['lab/other'], allow: ['pull'] },
      { users: ['ops'], repositories: ['**'], allow: ['pull'] },
      { users: ['ops'], allow: ['admin'] },
    ];
    access = { htpasswd, grants };
    await app.configure({ rules, access });
  });

  const appliesTo = ({ rules: told }: Explanation) => told.flatMap(({ name, applies }) => (applies ? name : []));

  test('hear what they get themselves, named or not', async () => {
    for (const query of [{ image: IMAGE }, { image: IMAGE, caller: 'ada' }]) {
      const told = await explain(query, 'ada');
      expect([told.caller, appliesTo(told)]).toEqual(['ada', ['audit']]);
    }
  });

  test('hear what others get where they look after the rules', async () => {
    expect(appliesTo(await explain({ image: IMAGE }, 'ops'))).toEqual([]);
    expect(appliesTo(await explain({ image: IMAGE, caller: 'ada' }, 'ops'))).toEqual(['audit']);
    const stranger = await explain({ image: IMAGE, caller: 'anonymous' }, 'ops');
    expect([stranger.caller, appliesTo(stranger)]).toEqual([undefined, ['strangers']]);
  });

  test('hear where layers lie, and of rules for others, where they look after the rules alone', async () => {
    const layers = join(app.directory, 'layers');
    await mkdir(layers, { recursive: true });
    await writeFile(join(layers, 'file'), 'of a layer');
    await app.writeConfig({ rules: [{ ...RULE, layers: [{ directory: layers }] }, ...rules.slice(1)], access });
    await app.reloadRules();
    const [own, all] = [await explain({ image: IMAGE }, 'ada'), await explain({ image: IMAGE, caller: 'ada' }, 'ops')];
    const tellsOf = ({ rules: told, platforms }: Explanation) => [
      told.map(({ name }) => name),
      new Set(platforms.flatMap(({ layers: added }) => added.map(({ from }) => from))),
    ];
    expect(tellsOf(own)).toEqual([['audit'], new Set([undefined])]);
    expect(tellsOf(all)).toEqual([['audit', 'strangers'], new Set([`directory ${layers}`])]);
    expect(own.digest).toBe(all.digest);
  });

  test.each([
    ['an image that they may not pull', `?image=${IMAGE}`, 'bob', 403],
    ['an image, without credentials', `?image=${IMAGE}`, undefined, 401],
    ['what others get', `?image=${IMAGE}&caller=bob`, 'ada', 403],
    ['what those get who have no name', `?image=${IMAGE}&caller=anonymous`, 'ada', 403],
  ])('do not hear of %s', async (_, query, user, status) => {
    const asked = app.registry.requests.length;
    expect((await messageOf(query, user))[0]).toBe(status);
    expect(app.registry.requests).toHaveLength(asked);
  });

  test('hear of the rules where they look after them alone', async () => {
    const paths = ['/v1/rules', '/v1/rules/'].map(path => ask(path, 'ada'));
    for (const { status } of await Promise.all(paths)) expect([403, 404]).toContain(status);
    expect([(await ask('/v1/rules', 'ada')).status, (await ask('/v1/rules')).status]).toEqual([403, 401]);
    expect((await list('ops')).rules.map(({ name }) => name)).toEqual(['audit', 'strangers']);
  });
});

test('the active rules are reported in their order, without values and what addresses hold beside the path', async () => {
  const url = `${app.registry.url}/tool.tar?token=canary`;
  await app.configure({
    rules: [
      { ...RULE, env: { PASSWORD: 'canary' }, layers: [{ url, platforms: ['arm64'] }] },
      {
        name: 'second',
        match: { image: ['a/**'], not: 'a/b', platform: 'linux/*', caller: 'x' },
        user: '1',
        pinned: 'refused',
      },
    ],
  });
  const before = Date.now();
  const told = await list();
  expect(told).toEqual({
    rules: [
      {
        name: 'audit',
        match: { image: ['**'] },
        layers: [{ from: `${app.registry.url}/tool.tar`, platforms: ['linux/arm64'] }],
        changes: ['env'],
        pinned: 'untouched',
      },
      {
        name: 'second',
        match: { image: ['a/**'], not: ['a/b'], platform: ['linux/*'], caller: ['x'] },
        layers: [],
        changes: ['user'],
        pinned: 'refused',
      },
    ],
    loadedAt: expect.any(String),
    faults: [],
  });
  expect(Date.parse(told.loadedAt)).toBeLessThanOrEqual(before);
  expect(JSON.stringify(told)).not.toContain('canary');
});
