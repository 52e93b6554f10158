// Builds where access is configured: who may build what from what, and that what opens a registry is seen nowhere.
import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { listCommandLines } from '../support/command-lines.ts';
import { readPushed } from '../support/pushed-image.ts';
import { type BuildsClient, containerFile, createBuildsClient } from './support/builds.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startVeneer, upstreamsTo } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { type Gate, startGate } from './support/gate.ts';
import { type GuardedRegistry, startGuardedRegistry } from './support/guarded-registry.ts';
import { run } from './support/process.ts';
import { envOf, makeCredentials } from './support/pushers.ts';

const missing = findMissing(ENVIRONMENT_COMMANDS);
const SECRET = 'canary-secret-of-a-step';
const PASSWORDS = {
  dev: 'canary-password-of-dev',
  owner: 'canary-password-of-owner',
  many: 'canary-password-of-many',
} as const;
const SECRETS = [SECRET, ...Object.values(PASSWORDS), 'canary-password-of-the-guarded-registry'].flatMap(secret => [
  secret,
  Buffer.from(secret).toString('base64'),
]);
/** An access token: none of ours may be seen. */
const TOKEN = /vnr_[\w-]{12,}/;

describe.skipIf(missing)(`builds with access${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let gate: Gate;
  let guarded: GuardedRegistry;
  let veneer: Awaited<ReturnType<typeof startVeneer>>;
  let dataDir = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    gate = await environment.keep(startGate());
    guarded = await environment.keep(startGuardedRegistry(environment.folder));
    dataDir = await mkdtemp(join(environment.folder, 'data-'));
    const htpasswd = join(dataDir, '../htpasswd');
    await writeFile(htpasswd, htpasswdOf(PASSWORDS));
    const grants = [
      { anyone: true, repositories: [`${environment.registry}/**`], allow: ['pull'] },
      { users: ['dev', 'many'], repositories: ['local/builds', `${guarded.address}/**`], allow: ['pull', 'push'] },
      { users: ['owner'], repositories: ['local/**'], allow: ['pull', 'push'] },
    ];
    const { address, credentials } = guarded;
    veneer = await environment.keep(
      startVeneer(environment.folder, environment.registry, {
        dataDir,
        upstreams: { ...upstreamsTo(environment.registry), [address]: { url: `http://${address}`, credentials } },
        access: { htpasswd, grants },
        builds: {
          backends: [{ kind: 'buildkit', address: environment.buildkit, hostNetwork: true }],
          secrets: { step: SECRET },
          requests: { secrets: ['step'] },
          rate: { known: '6/1h' },
        },
      }),
    );
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('nothing that opens a registry, and no secret of a step, is in a command line, log or record', async () => {
    const script = 'busybox cat /run/secrets/step; echo; busybox base64 /run/secrets/step';
    const request = {
      containerFile: containerFile(
        `FROM ${environment.source}`,
        `RUN --mount=type=secret,id=step ${script}; ${gate.command('secrets')}; uname -m > /machine`,
      ),
      containerPlatform: 'linux/amd64,linux/arm64',
      buildSecrets: ['step'],
    };
    const [repository, cache] = ['app', 'cache'].map(name => `${guarded.address}/team/${name}`);
    const remote = await as('dev').submit({ ...request, buildRepository: repository, cacheRepository: cache });
    const hosted = await as('dev').submit(request);
    // What differs in where it goes alone runs once: BuildKit knows both to be the same step.
    await gate.arrive('secrets', 2);
    const commands = listCommandLines(/buildctl|buildkitd|runc|main\.ts/).filter(line =>
      line.includes(environment.folder),
    );
    expect(await listTokens()).toContain('a build');
    expect(commands.filter(line => line.includes('type=image')).join()).toContain(`name=${guarded.address}/team/app:`);
    gate.open('secrets');

    const logs = await Promise.all([remote, hosted].map(({ buildId }) => as('dev').readLog(buildId)));
    expect(logs).toEqual(logs.map(() => expect.stringContaining('***')));
    const ended = await Promise.all([remote, hosted].map(submitted => as('dev').awaitEnd(submitted)));
    expect(ended.map(({ status }) => status)).toEqual(['succeeded', 'succeeded']);
    const stored = await readAll(dataDir);
    expect(stored.join()).toContain(hosted.buildId);
    const seen = [...commands, ...logs, JSON.stringify(ended), veneer.readOutput(), ...stored];
    for (const text of seen)
      expect(SECRETS.find(secret => text.includes(secret)) ?? TOKEN.exec(text)?.[0]).toBeUndefined();
    expect(veneer.readOutput()).toContain('build ended');
    expect(await listTokens()).not.toContain('a build');

    const tag = remote.containerImage.split(':').at(-1);
    const pushed = await readPushed(`${repository}:${tag}`, guarded.credentials);
    expect(pushed).toMatchObject({ platforms: ['linux/amd64', 'linux/arm64'], digest: ended[0]?.digest });
    const { username, password } = guarded.credentials;
    const headers = { authorization: basic(username, password) };
    const cached = await fetch(`http://${guarded.address}/v2/team/cache/tags/list`, { headers });
    expect(Object(await cached.json()).tags).toEqual([expect.stringMatching(/^cache-[0-9a-f]{16}$/)]);
  });

  test('a build with the right to push goes to the hosted repository, and is pulled by anyone who has the token', async () => {
    const { targetImage, containerImage } = await as('dev').build({ containerFile: plain('hosted') });
    const anonymous = envOf(await makeCredentials(join(environment.folder, 'anonymous')));
    const crane = (image: string) => run(clientPath('crane'), ['validate', '--remote', image], { env: anonymous });
    expect(await crane(targetImage)).toMatch(/^PASS/);
    await expect(crane(`${veneer.address}/${containerImage}`)).rejects.toThrow('may not pull local/builds');
  });

  test.each([
    ['an anonymous caller', undefined, 'local/builds', 401, 'an anonymous caller may not build local/builds'],
    ['a user without the right to push there', 'dev', 'local/other', 403, 'may not build local/other'],
    ['a user without rights in the other registry', 'owner', 'REMOTE/app', 403, 'may not build'],
  ] as const)('%s may not build', async (_, user, repository, status, reason) => {
    const buildRepository = repository.replace('REMOTE', guarded.address);
    const answer = await as(user).request({ containerFile: plain('refused'), buildRepository });
    expect([answer.status, await answer.json()]).toEqual([status, { message: expect.stringContaining(reason) }]);
    expect(await as('owner').list()).not.toContainEqual(expect.objectContaining({ status: 'running' }));
  });

  test('a private base is for those who may pull it, and the build reads it with rights of its own', async () => {
    const base = await as('owner').build({ containerFile: plain('base'), buildRepository: 'local/private/base' });
    const from = { containerFile: containerFile(`FROM ${base.containerImage}`, 'RUN uname -m > /machine') };
    const refused = await as('dev').request(from);
    expect([refused.status, Object(await refused.json()).message]).toEqual([
      403,
      expect.stringContaining('may not pull local/private/base'),
    ]);
    const { targetImage } = await as('owner').build({ ...from, buildRepository: 'local/private/app' });
    const [pushed] = (await readPushed(targetImage, { username: 'owner', password: PASSWORDS.owner })).images;
    expect(pushed?.labels.what).toBe('base');
    expect(await pushed?.readFile('/machine')).toBe('x86_64\n');
  });

  test('each platform of a build counts for its caller, and what is built already does not', async () => {
    const containerPlatform = 'linux/amd64,linux/arm64,linux/arm/v7';
    const ask = (name: string, platforms = containerPlatform) =>
      as('many').request({ containerFile: plain(name), containerPlatform: platforms });
    const answers = [await ask('first'), await ask('second'), await ask('first')];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    const refused = await ask('third', 'linux/amd64');
    expect([refused.status, await refused.json()]).toEqual([
      429,
      { message: expect.stringContaining('1 more would be 7 of 6 platforms') },
    ]);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(3000);
    expect((await as('owner').request({ containerFile: plain('third') })).status).toBe(200);
  });

  function as(user?: keyof typeof PASSWORDS): BuildsClient {
    const headers = user && { authorization: basic(user, PASSWORDS[user]) };
    return createBuildsClient(veneer.address, headers);
  }

  function listTokens(): Promise<string> {
    return run(process.execPath, ['src/main.ts', '--data-dir', dataDir, 'token', 'list']);
  }

  /** A Containerfile without RUN, which differs in its label. */
  function plain(what: string): string {
    return containerFile(`FROM ${environment.source}`, `LABEL what=${what}`);
  }
});

/** Every file below the folder, as text. */
async function readAll(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter(entry => entry.isFile());
  return Promise.all(files.map(({ parentPath, name }) => readFile(join(parentPath, name), 'latin1')));
}
