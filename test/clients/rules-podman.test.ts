// A real podman pulls through the rules of its mirror. CRI-O reads the same file.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { findMissing } from './support/clients.ts';
import { ENVIRONMENT_COMMANDS } from './support/environment.ts';
import { run } from './support/process.ts';
import { printedOf } from './support/ruled.ts';
import { AMD64, APP, ruledContract } from './support/ruled-contract.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'podman', 'conmon', 'openssl', 'htpasswd']);
const PASSWORD = 'a password';

describe.skipIf(missing)(`podman, ruled${missing ? ` (${missing})` : ''}`, { timeout: 180_000 }, () => {
  const getEnvironment = ruledContract('podman', {
    refused: /denied: the rule corporate-ca changes docker\.io\/library\/app, /,
  });

  test.each([
    ['staging-1', 'staging'],
    ['reader', ''],
  ])(
    'shows itself as %s by its credentials for the mirror, and has what the rules have for such',
    async (user, caller) => {
      const { environment, start } = getEnvironment();
      const htpasswd = join(environment.folder, `htpasswd-${user}`);
      await run('htpasswd', ['-B', '-i', '-c', htpasswd, user], { input: PASSWORD });
      const grants = [{ users: [user], repositories: ['docker.io/**'], allow: ['pull'] }];
      const { runtime, hub } = await start({
        settings: { access: { htpasswd, grants } },
        async makeEnv(mirror) {
          const file = join(environment.folder, `auth-${user}.json`);
          const auth = Buffer.from(`${user}:${PASSWORD}`).toString('base64');
          await writeFile(file, JSON.stringify({ auths: { [mirror]: { auth } } }));
          return { REGISTRY_AUTH_FILE: file };
        },
      });
      expect((await runtime.see(APP, AMD64)).printed).toBe(printedOf('x86_64', 'first', caller));
      expect(hub.paths).toEqual([]);
    },
  );
});
