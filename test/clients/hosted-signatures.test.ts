// cosign signs and attests hosted images with a key pair, as tags beside them and as referrers, and verifies what it finds there.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientPath, findMissing } from './support/clients.ts';
import { startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'cosign']);
// No transparency log and no root of trust: nothing but the key and the registry.
const SIGN = ['--key', 'cosign.key', '--tlog-upload=false', '--allow-http-registry', '--yes'];
const VERIFY = ['--insecure-ignore-tlog', '--allow-http-registry', '--trusted-root', 'root.json'];

const forms = [
  { form: 'tags', options: [], tags: (digest: string) => ['1', `${digest}.att`, `${digest}.sig`] },
  { form: 'referrers', options: ['--new-bundle-format'], tags: () => ['1'] },
];

describe.skipIf(missing)(`signatures, hosted${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let hosted = '';
  let digest = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    hosted = `${(await environment.keep(startVeneer(environment.folder, environment.registry))).address}/local`;
    digest = await crane('digest', environment.source);
    await writeFile(join(environment.folder, 'predicate.json'), '{"checked":true}');
    await cosign('generate-key-pair');
    await mkdir(join(environment.folder, 'other'));
    await cosign('generate-key-pair', '--output-key-prefix', 'other/cosign');
    await cosign('trusted-root', 'create', '--out', 'root.json');
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test.each(forms)(
    'are kept as $form: the image is verified by its key and by no other',
    async ({ options, ...form }) => {
      const repository = `${hosted}/signed/${form.form}`;
      await crane('copy', environment.source, `${repository}:1`);
      const verify = (key: string) => cosign('verify', ...VERIFY, ...options, '--key', key, `${repository}:1`);
      await expect(verify('cosign.pub')).rejects.toThrow(/no signatures found|no valid bundles exist/);

      await cosign('sign', ...SIGN, ...options, `${repository}@${digest}`);
      expect(await verify('cosign.pub')).toContain(digest);
      await expect(verify('other/cosign.pub')).rejects.toThrow(/invalid signature|failed to verify/);

      const about = ['--type', 'custom'];
      await cosign('attest', ...SIGN, ...options, ...about, '--predicate', 'predicate.json', `${repository}@${digest}`);
      const args = [...VERIFY, ...options, ...about, '--key', 'cosign.pub', `${repository}:1`];
      expect(await cosign('verify-attestation', ...args)).toContain('application/vnd.in-toto+json');

      expect((await crane('ls', repository)).split('\n')).toEqual(form.tags(digest.replace(':', '-')));
      expect(await crane('digest', `${repository}:1`)).toBe(digest);
    },
  );

  function crane(...args: readonly string[]): Promise<string> {
    return run(clientPath('crane'), args);
  }

  function cosign(...args: readonly string[]): Promise<string> {
    return run(clientPath('cosign'), args, { cwd: environment.folder, env: { COSIGN_PASSWORD: '' } });
  }
});
