// What a build reads of a registry whose credentials it has: what its caller may pull, and nothing that a trigger of a base, a frontend or a line
// that readers take in different ways names beside it.
import { mkdtemp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { basic, htpasswdOf } from '../access/fixture.ts';
import { type BuildsClient, containerFile, createBuildsClient } from './support/builds.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startVeneer, upstreamsTo } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { type GuardedRegistry, startGuardedRegistry } from './support/guarded-registry.ts';
import { useMachineNetworks } from './support/machine-networks.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'buildah']);
const PASSWORDS = { owner: 'password-of-owner', other: 'password-of-other' } as const;

describe.skipIf(missing).each(['buildkit', 'buildah'] as const)(
  `what %s may read${missing ? ` (${missing})` : ''}`,
  { timeout: 60_000 },
  kind => {
    useMachineNetworks();

    let environment: Environment;
    let guarded: GuardedRegistry;
    let address: string;
    /** Images in the guarded registry: `secret` is for the owner alone. */
    let secret: string;
    let open: string;

    beforeAll(async () => {
      environment = await createEnvironment();
      guarded = await environment.keep(startGuardedRegistry(environment.folder));
      const folder = await mkdtemp(join(environment.folder, 'users-'));
      const htpasswd = join(folder, 'htpasswd');
      await writeFile(htpasswd, htpasswdOf(PASSWORDS));
      const { credentials } = guarded;
      ({ address } = await environment.keep(
        startVeneer(environment.folder, environment.registry, {
          dataDir: join(folder, 'data'),
          upstreams: {
            ...upstreamsTo(environment.registry),
            [guarded.address]: { url: `http://${guarded.address}`, credentials },
          },
          access: {
            htpasswd,
            grants: [
              { users: ['owner'], repositories: ['**'], allow: ['pull', 'push'] },
              {
                anyone: true,
                repositories: [`${environment.registry}/**`, `${guarded.address}/open`],
                allow: ['pull'],
              },
              { users: ['other'], repositories: ['local/other'], allow: ['pull', 'push'] },
            ],
          },
          builds: { backends: [backends()[kind]], failureMemory: '0s' },
        }),
      ));
      secret = await make('secret', `FROM ${environment.source}`, 'LABEL what=secret');
      open = await make('open', `FROM ${environment.source}`, 'LABEL what=open');
    }, 120_000);

    afterAll(() => environment?.close(), 60_000);

    test('is what its caller may pull', async () => {
      const { status } = await buildAs('other', `FROM ${open}`, 'LABEL a=b');
      expect(status).toBe('succeeded');
    });

    test('is no image that a trigger of the base names', async () => {
      const evil = `${environment.registry}/evil/base:1`;
      // The builder has it already.
      await as('owner').build({ containerFile: containerFile(`FROM ${secret}`, 'RUN true') });
      await makeEvil(evil, `FROM ${environment.source}\nONBUILD COPY --from=${secret} /bin/busybox /stolen\n`);
      const build = await buildAs('other', `FROM ${evil}`, `COPY --from=${open} /bin/busybox /x`);
      expect(build.status).toBe('failed');
      if (kind === 'buildkit') expect(build.reason).toMatch(/secret:\S+ may not be read: /);
    });

    test.each([
      ['between flags', (image: string) => ['FROM scratch', `COPY --chown=0\x85--from=${image} / /x`], {}],
      [
        'on a continued line',
        (image: string) => ['FROM scratch', 'RUN true \\', '\uFEFF', `COPY --from=${image} / /x`],
        {},
      ],
      ['before a frontend', (_: string) => ['FROM scratch', 'LABEL a=b'], (image: string) => ` ${image}`],
    ])('is asked of its caller also where it is hidden %s', async (_, linesOf, syntax) => {
      const buildArgs = typeof syntax === 'function' ? { BUILDKIT_SYNTAX: syntax(secret) } : {};
      const body = { containerFile: containerFile(...linesOf(secret)), buildRepository: 'local/other', buildArgs };
      const answer = await as('other').request(body);
      expect([answer.status, Object(await answer.json()).message]).toEqual([
        403,
        expect.stringContaining(`may not pull ${guarded.address}/secret`),
      ]);
    });

    function backends() {
      const storage = {
        root: join(environment.folder, 'root'),
        runRoot: join(environment.folder, 'run'),
        storageDriver: 'vfs',
      };
      return {
        buildkit: { kind: 'buildkit', address: environment.buildkit },
        buildah: { kind: 'buildah', ...storage, isolation: 'chroot' },
      };
    }

    /** In Docker's format: that of OCI has no triggers, which buildah heeds. */
    async function makeEvil(image: string, text: string): Promise<void> {
      const folder = await mkdtemp(join(environment.folder, 'evil-'));
      await writeFile(join(folder, 'Dockerfile'), text);
      const output = `type=image,name=${image},push=true,oci-mediatypes=false`;
      const local = ['--local', `context=${folder}`, '--local', `dockerfile=${folder}`];
      const options = ['--frontend', 'dockerfile.v0', ...local, '--output', output];
      await run(clientPath('buildctl'), ['--addr', environment.buildkit, 'build', ...options]);
    }

    /** An image in the guarded registry. */
    async function make(name: string, ...lines: readonly string[]): Promise<string> {
      const buildRepository = `${guarded.address}/${name}`;
      return (await as('owner').build({ containerFile: containerFile(...lines), buildRepository })).containerImage;
    }

    async function buildAs(user: keyof typeof PASSWORDS, ...lines: readonly string[]) {
      const body = { containerFile: containerFile(...lines), buildRepository: `local/${user}` };
      return await as(user).awaitEnd(await as(user).submit(body));
    }

    function as(user: keyof typeof PASSWORDS): BuildsClient {
      return createBuildsClient(address, { authorization: basic(user, PASSWORDS[user]) });
    }
  },
);
