// Clients of a Veneer where access is configured: who logs in may what was granted, and everyone else is told so.
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PRINTED, requestAugmentation, submitAugmentation } from './support/augment.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startDocker, startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { run } from './support/process.ts';
import { createPushers, envOf, type Login, makeCredentials, PUSHERS } from './support/pushers.ts';

const missing = findMissing([
  ...ENVIRONMENT_COMMANDS,
  'dockerd',
  'docker',
  'podman',
  'skopeo',
  'oras',
  'regctl',
  'htpasswd',
]);
const PASSWORD = 'reads, but does not write';
const WRONG_LOGINS = ['docker', 'podman', 'skopeo', 'oras'] as const;

describe.skipIf(missing)(`access${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let host = '';
  let veneer = '';
  let dataDir = '';
  let pushers: ReturnType<typeof createPushers>;
  let ci: Login;
  let reader: Login;
  /** The folders of credentials of one who has logged in with the token for CI, and of one who has not. */
  let [known, anonymous] = ['', ''];

  beforeAll(async () => {
    environment = await createEnvironment();
    host = (await environment.keep(startDocker(environment.folder))).host;
    dataDir = join(environment.folder, 'data');
    const htpasswd = join(environment.folder, 'htpasswd');
    await run('htpasswd', ['-B', '-i', '-c', htpasswd, 'reader'], { input: PASSWORD });
    const grants = [
      { users: ['reader'], repositories: ['local/**'], allow: ['pull'] },
      { anyone: true, repositories: ['local/public/**', 'lab/**'], allow: ['pull'] },
    ];
    veneer = (
      await environment.keep(
        startVeneer(environment.folder, environment.registry, { dataDir, access: { htpasswd, grants } }),
      )
    ).address;
    const secret = await veneerToken('create', '--push', 'local/**', '--ttl', '1h', '--name', 'ci');
    ci = { address: veneer, user: 'token', secret };
    reader = { address: veneer, user: 'reader', secret: PASSWORD };
    pushers = createPushers(environment, host);
    [known, anonymous] = [
      await makeCredentials(join(environment.folder, 'ci')),
      await makeCredentials(join(environment.folder, 'none')),
    ];
    await pushers.crane.login(ci, known);
    for (const repository of ['team', 'public']) await pushers.crane.push(`${veneer}/local/${repository}/app:1`, known);
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test.each(PUSHERS)('%s logs in with a token for CI, and pushes what is then all there', async client => {
    const image = `${veneer}/local/pushed/${client}:1`;
    const folder = await makeCredentials(join(environment.folder, `pushes-${client}`));
    await expect(pushers[client].push(image, folder)).rejects.toThrow(/unauthorized|denied/i);
    await pushers[client].login(ci, folder);
    await pushers[client].push(image, folder);
    await expect(crane(known, 'validate', '--remote', image)).resolves.toMatch(/^PASS/);
  });

  test.each(PUSHERS)('%s says that a user who may pull may not push, and nothing changes', async client => {
    const folder = await makeCredentials(join(environment.folder, `reads-${client}`));
    await pushers[client].login(reader, folder);
    await expect(pushers[client].push(`${veneer}/local/team/app:refused`, folder)).rejects.toThrow(
      'may not push local/team/app',
    );
    expect(await crane(known, 'ls', `${veneer}/local/team/app`)).toBe('1');
  });

  test.each(WRONG_LOGINS)('%s is told that a password is wrong', async client => {
    const folder = await makeCredentials(join(environment.folder, `guesses-${client}`));
    const login = pushers[client].login({ ...reader, secret: 'a guess' }, folder);
    await expect(login).rejects.toThrow(/wrong user name or password|invalid username\/password/);
  });

  test('a token that may push may not delete', async () => {
    await expect(crane(known, 'delete', `${veneer}/local/team/app:1`)).rejects.toThrow('may not delete local/team/app');
    await expect(crane(known, 'validate', '--remote', `${veneer}/local/team/app:1`)).resolves.toMatch(/^PASS/);
  });

  test('a revoked token logs in no more', async () => {
    const secret = await veneerToken('create', '--push', 'local/**', '--name', 'short');
    const folder = await makeCredentials(join(environment.folder, 'revoked'));
    await pushers.oras.login({ ...ci, secret }, folder);
    const [line = ''] = (await veneerToken('list')).split('\n').filter(text => text.includes('short'));
    await veneerToken('revoke', line.split(' ')[0] ?? '');
    await expect(pushers.oras.login({ ...ci, secret }, folder)).rejects.toThrow('expired or revoked');
  });

  test('anyone pulls what anyone may, hosted and from an upstream', async () => {
    const digest = await crane(anonymous, 'digest', environment.source);
    for (const image of [`${veneer}/local/public/app:1`, `${veneer}/lab/library/bb:1`]) {
      expect(await docker(anonymous, 'pull', image)).toContain(`Digest: ${digest}`);
      await expect(crane(anonymous, 'validate', '--remote', image)).resolves.toMatch(/^PASS/);
    }
  });

  test('a private image is for who has logged in', async () => {
    const image = `${veneer}/local/team/app:1`;
    await expect(docker(anonymous, 'pull', image)).rejects.toThrow("may require 'docker login': denied");
    const reason = 'UNAUTHORIZED: an anonymous bearer token may not pull local/team/app';
    await expect(crane(anonymous, 'ls', `${veneer}/local/team/app`)).rejects.toThrow(reason);
    expect(await docker(known, 'pull', image)).toContain('Digest: sha256:');
  });

  test('a private image is augmented only for who may pull it, and then pulled by anyone who has the token', async () => {
    const refused = await requestAugmentation(veneer, 'local/team/app:1');
    expect([refused.status, await refused.json()]).toEqual([
      401,
      { message: expect.stringContaining('an anonymous caller may not pull local/team/app') },
    ]);
    const authorization = `Basic ${Buffer.from(`${ci.user}:${ci.secret}`).toString('base64')}`;
    const { targetImage } = await submitAugmentation(veneer, 'local/team/app:1', { authorization });
    await docker(anonymous, 'pull', targetImage);
    expect(await docker(anonymous, 'run', '--rm', '--network', 'none', targetImage)).toBe(PRINTED);
  });

  test('a public image is augmented for anyone', async () => {
    const { targetImage } = await submitAugmentation(veneer, `${veneer}/local/public/app:1`);
    await expect(crane(anonymous, 'validate', '--remote', targetImage)).resolves.toMatch(/^PASS/);
  });

  function veneerToken(...args: readonly string[]): Promise<string> {
    return run(process.execPath, ['src/main.ts', '--data-dir', dataDir, 'token', ...args]);
  }

  function crane(folder: string, ...args: readonly string[]): Promise<string> {
    return run(clientPath('crane'), args, { env: envOf(folder) });
  }

  function docker(folder: string, ...args: readonly string[]): Promise<string> {
    return run('docker', ['-H', host, ...args], { env: envOf(folder) });
  }
});
