// Recipes over the wire: a pull of a name that is not there builds it, for anyone who may pull it.
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HOST } from '../support/app.ts';
import { type BuildApp, startBuildApp } from './build-app.ts';
import { ADMIN, startGuarded } from './callers.ts';

let directory: string;
let app: BuildApp;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'veneer-recipes-'));
  await writeFile(
    join(directory, 'tool.Containerfile'),
    'FROM scratch\nARG NAME\nARG VERSION\nCOPY files /\nENV TOOL=$NAME-$VERSION\n',
  );
  await writeFile(join(directory, 'failing.Containerfile'), 'FROM scratch\nCOPY missing /\n');
  await mkdir(join(directory, 'files'));
  await writeFile(join(directory, 'files', 'readme'), 'hi');
  app = await startBuildApp({ config: { builds: builds() } });
});

afterEach(async () => {
  await app.close();
  await rm(directory, { recursive: true });
});

function builds(match = 'local/tools/{name}:{version}') {
  const tool = {
    match,
    containerFile: join(directory, 'tool.Containerfile'),
    context: directory,
    args: { NAME: '{name}', VERSION: '{version}' },
    platforms: ['linux/amd64', 'linux/arm64'],
  };
  const failing = { match: 'local/failing:{version}', containerFile: join(directory, 'failing.Containerfile') };
  return { backends: ['embedded'], recipes: [tool, failing] };
}

async function idsOfBuilds(): Promise<readonly string[]> {
  const { builds } = Object(await (await app.request('/v1alpha1/builds')).json());
  return [...builds].map(({ buildId }) => buildId);
}

test('a pull of a missing name builds it for all its platforms, once for all who pull', async () => {
  const pulls = Array.from({ length: 20 }, () => app.pull(`${HOST}/local/tools/jq:1.7`));
  for (const images of await Promise.all(pulls)) {
    expect([...images.keys()]).toEqual(['linux/amd64', 'linux/arm64']);
    for (const { config } of images.values()) expect(config?.Env).toContain('TOOL=jq-1.7');
  }
  expect(await idsOfBuilds()).toHaveLength(1);
  expect(await (await app.request('/v2/local/tools/jq/tags/list')).json()).toEqual({
    name: 'local/tools/jq',
    tags: ['1.7'],
  });
});

test('a tag that an upstream lacks is built, kept apart, and served under the name of the upstream', async () => {
  await app.close();
  app = await startBuildApp({ config: { builds: builds('lab/library/{name}:{version}-built') } });
  const images = await app.pull(`${HOST}/lab/library/app:2-built`);
  expect(images.get('linux/arm64')?.config?.Env).toContain('TOOL=app-2');
  expect((await app.request('/v2/lab/library/app/manifests/2-other')).status).toBe(404);
  expect((await app.pull(`${HOST}/lab/library/app:1`)).size).toBe(3);
  expect(await idsOfBuilds()).toHaveLength(1);
});

test('an image of a recipe can be augmented, and be the base of a build', async () => {
  const { name } = await app.submit({ containerImage: 'local/tools/jq:1.7', containerConfig: { env: ['A=b'] } });
  const augmented = await app.pull(`${HOST}/${name}:1.7`);
  expect(augmented.get('linux/amd64')?.config?.Env).toEqual(expect.arrayContaining(['TOOL=jq-1.7', 'A=b']));
  const containerFile = Buffer.from('FROM local/tools/yq:4\nLABEL a=b').toString('base64');
  const { targetImage } = await app.build({ containerFile });
  expect((await app.pull(targetImage)).get('linux/amd64')?.config?.Env).toContain('TOOL=yq-4');
  expect(await idsOfBuilds()).toHaveLength(3);
});

test('a failure is a 404 with the reason in a line and the address of the log, and is not begun again at once', async () => {
  const pull = async () => {
    const response = await app.request('/v2/local/failing/manifests/1');
    const { errors } = Object(await response.json());
    return [response.status, errors[0].code, errors[0].message];
  };
  const [status, code, message] = await pull();
  const [id = ''] = await idsOfBuilds();
  expect([status, code]).toEqual([404, 'MANIFEST_UNKNOWN']);
  expect(message).toMatch(/^[^\n]*missing[^\n]*$/);
  expect(message).toContain(`http://${HOST}/v1alpha1/builds/${id}/logs`);
  expect(await pull()).toEqual([status, code, message]);
  expect(await idsOfBuilds()).toEqual([id]);
});

test('a name that no recipe is for is as missing as before', async () => {
  expect((await app.request('/v2/local/other/manifests/1')).status).toBe(404);
  expect(await idsOfBuilds()).toEqual([]);
});

test('made-up names of a recipe count as all builds do, and take no place of who is known', async () => {
  const containerFile = join(directory, 'plain.Containerfile');
  await writeFile(containerFile, 'FROM scratch\nARG V\nLABEL v=$V\n');
  const recipes = [{ match: 'local/app:{version}', containerFile, args: { V: '{version}' } }];
  const rate = { anonymous: '2/1h', known: '3/1h' };
  const server = await startGuarded({ builds: { backends: ['embedded'], recipes, rate } }, [
    { anyone: true, repositories: ['local/app'], allow: ['pull'] },
  ]);
  const names = Array.from({ length: 25 }, (_, i) => `made-up-${i}`);
  const pull = (version: string, headers = {}) => server.send('GET', `/v2/local/app/manifests/${version}`, { headers });
  const pulls = await Promise.all(names.map(name => pull(name)));
  expect(pulls.map(({ status }) => status).toSorted()).toEqual([200, 200, ...Array.from({ length: 23 }, () => 429)]);
  const [refused] = pulls.filter(({ status }) => status === 429);
  expect(Number(refused?.headers['retry-after'])).toBeGreaterThan(3000);
  expect(refused?.body.toString()).toContain('builds.rate.anonymous');
  // What is there is free, and who is known has a budget of his own, which his submits share.
  const [built = ''] = names.filter((_, i) => pulls[i]?.status === 200);
  expect((await pull(built)).status).toBe(200);
  const headers = { Authorization: ADMIN, Host: `127.0.0.1:${server.port}`, 'Content-Type': 'application/json' };
  expect((await pull('known-1', headers)).status).toBe(200);
  expect((await pull('known-2', headers)).status).toBe(200);
  const submit = (label: string) => {
    const body = { containerFile: Buffer.from(`FROM scratch\nLABEL a=${label}\n`).toString('base64') };
    return server.send('POST', '/v1alpha2/container', { headers, body: JSON.stringify(body) });
  };
  expect((await submit('one')).status).toBe(200);
  expect((await submit('two')).status).toBe(429);
  expect((await pull('known-3', headers)).status).toBe(429);
  await server.close();
});

test('who may pull the name may have it built, and nobody else', async () => {
  const containerFile = join(directory, 'plain.Containerfile');
  await writeFile(containerFile, 'FROM scratch\nLABEL a=b\n');
  const recipes = [{ match: 'local/app:{version}', containerFile }];
  const server = await startGuarded({ builds: { backends: ['embedded'], recipes } });
  for (const [user, status] of [
    ['nobody', 403],
    ['blind', 403],
    ['reader', 200],
  ] as const) {
    const authorization = await server.authorizationOf({ user, by: 'password' }, 'repository:local/app:pull');
    const headers = { Authorization: authorization ?? '' };
    expect([user, (await server.send('GET', '/v2/local/app/manifests/9', { headers })).status]).toEqual([user, status]);
    const { body } = await server.send('GET', '/v1alpha1/builds', { headers: { Authorization: ADMIN } });
    expect(JSON.parse(body.toString()).builds).toHaveLength(status === 200 ? 1 : 0);
  }
  expect((await server.send('GET', '/v2/local/app/manifests/8')).status).toBe(401);
  await server.close();
});
