// `veneer rules`, as it is typed.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createRulesCommand } from '../../src/cli/rules.ts';
import type { Explanation, RuleList } from '../../src/rules/explanation.ts';
import { depsOf } from './build-service.ts';
import { runCommand } from './run.ts';

const SOURCE = `sha256:${'a'.repeat(64)}`;
const TARGET = `sha256:${'b'.repeat(64)}`;
const LAYER = `sha256:${'c'.repeat(64)}`;

const EXPLANATION: Explanation = {
  image: 'docker.io/library/alpine:3',
  caller: 'ada',
  rules: [
    { name: 'corporate-ca', applies: true, reason: 'image docker.io/** matches', platforms: ['linux/*'] },
    { name: 'debug', applies: false, reason: 'no pattern of callers matches ada' },
  ],
  outcome: 'changed',
  reason: 'changed by corporate-ca',
  sourceDigest: SOURCE,
  digest: TARGET,
  platforms: [
    {
      ...{ platform: 'linux/amd64', rules: ['corporate-ca'], sourceDigest: SOURCE, digest: TARGET },
      differences: [
        { field: 'env', key: 'PATH', before: '/bin', after: '/opt:/bin' },
        { field: 'env', key: 'CERT', after: '/ca.pem' },
        { field: 'cmd', before: ['sh'], after: ['run', 'it now'] },
        { field: 'exposedPorts', key: '80/tcp', after: '' },
        { field: 'labels', key: 'a/b', after: '' },
      ],
      layers: [
        {
          ...{ digest: LAYER, size: 1536, rule: 'corporate-ca', from: 'directory ./layers/ca' },
          moved: { given: SOURCE, entries: [{ from: 'bin/tool', to: 'usr/bin/tool' }], count: 3 },
        },
      ],
    },
    {
      ...{ platform: 'windows/amd64', rules: [], sourceDigest: SOURCE, digest: SOURCE },
      ...{ differences: [], layers: [] },
    },
  ],
};

const LIST: RuleList = {
  rules: [
    {
      name: 'corporate-ca',
      match: { image: ['docker.io/**'], not: ['docker.io/library/scratch*'], platform: ['linux/*'] },
      layers: [{ from: 'directory ./layers/ca' }, { from: 'file tool.tar', platforms: ['linux/arm64'] }],
      changes: ['env', 'labels'],
      pinned: 'untouched',
    },
    { name: 'debug', match: { image: ['**'], caller: ['ops-*'] }, layers: [], changes: ['user'], pinned: 'refused' },
  ],
  loadedAt: '2030-01-01T00:00:00.000Z',
  faults: [],
};

let server: Server;
let url: URL;
let answer: { status: number; body: unknown };
let asked: { path: string; query: Record<string, string>; authorization: string | undefined }[];

beforeEach(async () => {
  asked = [];
  server = createServer(({ url: path = '', headers }, response) => {
    const { pathname, searchParams } = new URL(path, 'http://service');
    asked.push({ path: pathname, query: Object.fromEntries(searchParams), authorization: headers.authorization });
    response.writeHead(answer.status, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer.body));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  url = new URL(`http://127.0.0.1:${Object(server.address()).port}`);
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise(resolve => server.close(resolve));
});

function run(
  body: unknown,
  args: readonly string[],
  { status = 200, token }: { status?: number; token?: string } = {},
) {
  answer = { status, body };
  return runCommand(createRulesCommand(depsOf({ url }, token)), args);
}

test('explain says who, why and what, as diff shows it', async () => {
  const { out, err, exitCode } = await run(EXPLANATION, ['explain', 'alpine:3']);
  expect([err, exitCode]).toEqual(['', 0]);
  expect(out.split('\n')).toEqual([
    'image    docker.io/library/alpine:3',
    'caller   ada',
    `source   ${SOURCE}`,
    `becomes  ${TARGET}`,
    'changed  changed by corporate-ca',
    '',
    'RULE          APPLIES  PLATFORMS  WHY',
    'corporate-ca  yes      linux/*    image docker.io/** matches',
    'debug         no       all        no pattern of callers matches ada',
    '',
    'linux/amd64: changed, corporate-ca',
    `  - ${SOURCE}`,
    `  + ${TARGET}`,
    `  LAYERS${' '.repeat(LAYER.length - 2)}SIZE     RULE          FROM`,
    `  + ${LAYER}  1.5 KiB  corporate-ca  directory ./layers/ca`,
    `  MOVED by links of the image, of ${SOURCE}`,
    '  bin/tool → usr/bin/tool',
    '  and 2 more',
    '  ENV',
    '  - PATH=/bin',
    '  + PATH=/opt:/bin',
    '  + CERT=/ca.pem',
    '  CMD',
    '  - ["sh"]',
    '  + ["run","it now"]',
    '  EXPOSEDPORTS',
    '  + 80/tcp',
    '  LABELS',
    '  + a/b=',
    '',
    'windows/amd64: unchanged, no rule',
    `  ${SOURCE}`,
    '',
  ]);
});

test('explain asks for one platform, and for somebody else', async () => {
  await run(EXPLANATION, ['explain', 'a/b:1', '--platform', 'linux/arm64', '--caller', 'bob & co'], { token: 'u:p' });
  expect(asked).toEqual([
    {
      path: '/v1/rules/explain',
      query: { image: 'a/b:1', platform: 'linux/arm64', caller: 'bob & co' },
      authorization: `Basic ${btoa('u:p')}`,
    },
  ]);
});

test('explain gives what the service says as JSON', async () => {
  const { out } = await run(EXPLANATION, ['explain', 'alpine:3', '--json']);
  expect(JSON.parse(out)).toEqual(EXPLANATION);
});

test.each(['refused', 'failed'] as const)(
  'explain of what is %s tells why, and fails as a pull does',
  async outcome => {
    const { digest, ...told } = EXPLANATION;
    const { out, err, exitCode } = await run({ ...told, outcome, reason: 'not here', platforms: [] }, ['explain', 'a']);
    expect(out).toContain('becomes  nothing: a pull gets an error');
    expect([err, exitCode]).toEqual(['error: a pull fails: not here\n', 2]);
  },
);

test('explain says that there are no rules', async () => {
  const plain = { ...EXPLANATION, rules: [], outcome: 'unchanged', reason: 'no rule matches it', platforms: [] };
  const { out, exitCode } = await run(plain, ['explain', 'alpine:3']);
  expect([out.split('\n').slice(4), exitCode]).toEqual([
    ['unchanged  no rule matches it', '', 'there are no rules', ''],
    0,
  ]);
});

test('an image that does not say what it is for has a place all the same', async () => {
  const platforms = EXPLANATION.platforms.map(each => ({ ...each, platform: '' }));
  const { out } = await run({ ...EXPLANATION, platforms }, ['explain', 'alpine:3']);
  expect(out.split('\n').filter(line => line.startsWith('no platform: '))).toEqual([
    'no platform: changed, corporate-ca',
    'no platform: unchanged, no rule',
  ]);
});

test('nothing that a registry or a file says moves the cursor or forges a line', async () => {
  const bad = 'x\u001b[2J\ny\u0007';
  const [image] = EXPLANATION.platforms;
  const forged: Explanation = {
    ...{ ...EXPLANATION, image: bad, caller: bad, reason: bad, sourceDigest: bad, digest: bad },
    rules: [{ name: bad, applies: true, reason: bad, platforms: [bad] }],
    platforms: [
      {
        ...{ platform: bad, rules: [bad], sourceDigest: 'a', digest: bad },
        differences: [{ field: 'env', key: bad, before: bad, after: [bad] }],
        layers: [{ digest: bad, size: 1, rule: bad, from: bad }],
      },
      {
        ...{ platform: bad, rules: [bad], sourceDigest: bad, digest: bad },
        differences: [],
        layers: image?.layers ?? [],
      },
    ],
  };
  const list: RuleList = {
    rules: [
      {
        name: bad,
        match: { image: [bad] },
        layers: [{ from: bad, platforms: [bad] }],
        changes: [bad],
        pinned: 'refused',
      },
    ],
    loadedAt: bad,
    faults: [bad],
  };
  for (const { out, err } of [await run(forged, ['explain', 'a']), await run(list, ['ls'])]) {
    expect(`${out}${err}`).not.toMatch(/[^\P{Cc}\n]/u);
    expect(out).not.toMatch(/^ *y/m);
  }
});

test('ls shows the rules in their order, in columns', async () => {
  const { out, err, exitCode } = await run(LIST, ['ls']);
  expect([err, exitCode]).toEqual(['', 0]);
  const lines = out.split('\n');
  expect(lines.slice(0, 3).map(line => line.split(/ {2,}/))).toEqual([
    ['RULE', 'IMAGES', 'NOT', 'PLATFORMS', 'CALLERS', 'CHANGES', 'LAYERS', 'PINNED'],
    [
      ...['corporate-ca', 'docker.io/**', 'docker.io/library/scratch*', 'linux/*', '-', 'env, labels'],
      ...['directory ./layers/ca, file tool.tar (linux/arm64)', 'untouched'],
    ],
    ['debug', '**', '-', '-', 'ops-*', 'user', '-', 'refused'],
  ]);
  expect(lines.slice(3)).toEqual(['', 'active since 2030-01-01T00:00:00.000Z', '']);
});

test('ls tells what is wrong with rules that are not active, beside those that are', async () => {
  const faults = ['rules[0].match: required', 'rules[1].name: "a" is there twice'];
  const { out, err, exitCode } = await run({ ...LIST, faults }, ['ls']);
  expect(out).toContain('corporate-ca');
  expect([err, exitCode]).toEqual([faults.map(fault => `the rules on disk are not active: ${fault}\n`).join(''), 0]);
});

test('ls gives what the service says as JSON', async () => {
  expect(JSON.parse((await run(LIST, ['ls', '--json'])).out)).toEqual(LIST);
});

test.each([
  [
    'a parameter that is faulty',
    400,
    { message: 'invalid query: platform: "x y" is not a platform' },
    'is not a platform',
  ],
  [
    'who may not',
    403,
    { errors: [{ code: 'DENIED', message: 'ada may not' }] },
    'set VENEER_TOKEN to a token that may',
  ],
  ['an answer of another program', 200, { hello: 'world' }, 'is not a Veneer service of this version'],
])('%s is reported in one line', async (_, status, body, message) => {
  const { out, err, exitCode } = await run(body, ['explain', 'alpine:3'], { status });
  expect([out, exitCode]).toEqual(['', 1]);
  expect(err).toMatch(/^error: .*\n$/);
  expect(err).toContain(message);
});
