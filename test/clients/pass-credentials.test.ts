// Clients whose credentials an upstream gets to see: who has logged in to Veneer as a user of the upstream pulls what that user may, and nobody else
// does; what anyone may pull, clients without a login go on pulling, too.
import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientPath, findMissing } from './support/clients.ts';
import { type Server, startContainerd, startDocker, startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { type GuardedRegistry, startGuardedRegistry } from './support/guarded-registry.ts';
import { run } from './support/process.ts';
import { createPushers, envOf, type Login, makeCredentials } from './support/pushers.ts';

const missing = findMissing([
  ...ENVIRONMENT_COMMANDS,
  ...['dockerd', 'docker', 'containerd', 'ctr', 'podman', 'skopeo', 'oras', 'regctl'],
]);
const CLIENTS = ['docker', 'containerd', 'podman', 'skopeo', 'crane', 'oras', 'regctl'] as const;
const IMAGE = 'team/private:1';

type Client = (typeof CLIENTS)[number];

/** Somebody with a folder of credentials; absent: without any. */
interface Puller {
  readonly folder: string;
  readonly login?: Login | undefined;
}

describe.skipIf(missing)(`passed credentials${missing ? ` (${missing})` : ''}`, { timeout: 120_000 }, () => {
  let environment: Environment;
  let guarded: GuardedRegistry;
  let veneer: Server;
  let engine = '';
  let containerd = '';
  let right: Login;
  let wrong: Login;

  beforeAll(async () => {
    environment = await createEnvironment();
    guarded = await environment.keep(startGuardedRegistry(environment.folder));
    const upstreams = {
      private: { url: `http://${guarded.address}`, passCredentials: true },
      public: { url: `http://${environment.registry}` },
    };
    veneer = await environment.keep(startVeneer(environment.folder, undefined, { upstreams }));
    engine = (await environment.keep(startDocker(environment.folder))).host;
    containerd = (await environment.keep(startContainerd(environment.folder))).socket;
    const { username: user, password: secret } = guarded.credentials;
    right = { address: veneer.address, user, secret };
    wrong = { ...right, secret: 'canary-guess' };
    const owner = await makeCredentials(join(environment.folder, 'owner'));
    const { crane } = createPushers(environment, engine);
    await crane.login({ ...right, address: guarded.address }, owner);
    await crane.push(`${guarded.address}/${IMAGE}`, owner);
  }, 180_000);

  afterAll(() => environment?.close(), 60_000);

  describe.each(CLIENTS)('%s', client => {
    test('pulls with a login what its user may pull at the upstream, again from the cache', async () => {
      const puller = await logIn(client, right);
      for (let round = 0; round < 2; round++) await pull(client, `${veneer.address}/private/${IMAGE}`, puller);
    });

    test('pulls nothing of it without a login, or with a wrong one, though all of it is kept', async () => {
      for (const puller of [await logIn(client), await logIn(client, wrong)]) {
        await expect(pull(client, `${veneer.address}/private/${IMAGE}`, puller)).rejects.toThrow(
          // regctl asks for another token until it has asked often enough.
          /unauthorized|authorization failed|retry limit exceeded/i,
        );
      }
    });

    test('pulls of other upstreams with any login, and without one', async () => {
      for (const puller of [await logIn(client), await logIn(client, right), await logIn(client, wrong)]) {
        await pull(client, `${veneer.address}/public/library/bb:1`, puller);
      }
    });
  });

  async function logIn(client: Client, login?: Login): Promise<Puller> {
    const folder = await makeCredentials(await mkdtemp(join(environment.folder, `${client}-`)));
    // ctr has no login: it is given one with each pull.
    if (login && client !== 'containerd') await createPushers(environment, engine)[client].login(login, folder);
    return { folder, login };
  }

  /** Anew each time, whatever the client has. */
  async function pull(client: Client, image: string, { folder, login }: Puller): Promise<void> {
    const env = envOf(folder);
    const target = join(await mkdtemp(join(folder, 'pulled-')), 'image');
    switch (client) {
      case 'docker':
        await run('docker', ['-H', engine, 'pull', image], { env });
        return void (await run('docker', ['-H', engine, 'rmi', image]));
      case 'containerd': {
        const namespace = `n${crypto.randomUUID().slice(0, 8)}`;
        const user = login ? ['--user', `${login.user}:${login.secret}`] : [];
        const options = ['--plain-http', '--snapshotter', 'native', ...user];
        return void (await run('ctr', ['--address', containerd, '-n', namespace, 'images', 'pull', ...options, image]));
      }
      case 'podman': {
        const roots = [
          '--root',
          join(environment.folder, 'podman'),
          '--runroot',
          join(environment.folder, 'podman-run'),
        ];
        const podman = [...roots, '--storage-driver', 'vfs'];
        await run('podman', [...podman, 'pull', '--tls-verify=false', image], { env });
        return void (await run('podman', [...podman, 'rmi', image]));
      }
      case 'skopeo':
        return void (await run('skopeo', ['copy', '--src-tls-verify=false', `docker://${image}`, `dir:${target}`], {
          env,
        }));
      case 'crane':
        return void (await run(clientPath('crane'), ['pull', '--format', 'oci', image, target], { env }));
      case 'oras':
        return void (await run(
          clientPath('oras'),
          ['copy', '--from-plain-http', image, '--to-oci-layout', `${target}:1`],
          { env },
        ));
      case 'regctl':
        return void (await run(
          clientPath('regctl'),
          ['--host', `reg=${veneer.address},tls=disabled`, 'image', 'copy', image, `ocidir://${target}`],
          { env },
        ));
    }
  }
});
