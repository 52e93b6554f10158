// Signatures and SBOMs of a source stay within reach of who pulls it through rules: the provenance of the augmented image tells the way, and
// cosign and oras go it through Veneer.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { PROVENANCE_TYPE } from '../../src/augment/provenance.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startVeneer } from './support/daemons.ts';
import { listEntries } from './support/entries.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { PLATFORMS } from './support/image.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'cosign', 'oras']);
// No transparency log and no root of trust: nothing but the key and the registry.
const SIGN = ['--key', 'cosign.key', '--tlog-upload=false', '--allow-http-registry', '--yes'];
const VERIFY = [
  '--key',
  'cosign.pub',
  '--insecure-ignore-tlog',
  '--allow-http-registry',
  '--trusted-root',
  'root.json',
];
const ATTESTED = ['--type', 'spdxjson'];
const SBOM_TYPE = 'application/spdx+json';
const RULE = { name: 'audit', match: { image: '**' }, env: { RULED: 'yes' } };

const forms = [
  { form: 'a tag beside it', options: [] },
  { form: 'a referrer', options: ['--new-bundle-format'] },
];

const Annotated = z.object({ annotations: z.record(z.string(), z.string()) });
const Provenance = z.object({ source: z.object({ digest: z.string() }), rules: z.array(z.string()) });
const Discovered = z.object({ referrers: z.array(z.object({ digest: z.string(), artifactType: z.string() })) });
const Told = z.object({
  sourceDigest: z.string(),
  platforms: z.array(z.object({ platform: z.string(), sourceDigest: z.string() })),
});

describe.skipIf(missing)(`provenance of rules${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let veneer = '';
  let repository = '';
  let source = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    source = await crane('digest', environment.source);
    veneer = (await environment.keep(startVeneer(environment.folder, environment.registry, { rules: [RULE] }))).address;
    repository = `${veneer}/lab/library/bb`;
    await cosign('generate-key-pair');
    await cosign('trusted-root', 'create', '--out', 'root.json');
    const pinned = `${environment.registry}/library/bb@${source}`;
    await writeFile(join(environment.folder, 'sbom.json'), '{"spdxVersion":"SPDX-2.3"}');
    for (const { options } of forms) {
      await cosign('sign', ...SIGN, ...options, pinned);
      await cosign('attest', ...SIGN, ...options, ...ATTESTED, '--predicate', 'sbom.json', pinned);
    }
    await oras('attach', '--plain-http', '--artifact-type', SBOM_TYPE, pinned, `sbom.json:${SBOM_TYPE}`);
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('the annotation of each image, its provenance and veneer rules explain name the same source', async () => {
    const [found, ...others] = await discover(`${repository}:1`);
    expect([found?.artifactType, others]).toEqual([PROVENANCE_TYPE, []]);
    const provenance = await pullProvenance(found?.digest);
    expect(provenance).toEqual({ source: { digest: source }, rules: ['audit'] });
    const told = Told.parse(JSON.parse(await explain('lab/library/bb:1')));
    expect(told.sourceDigest).toBe(source);
    const { images } = await listEntries(`${environment.registry}/library/bb@${source}`);
    for (const platform of PLATFORMS) {
      const { annotations } = Annotated.parse(
        JSON.parse(await crane('manifest', '--insecure', '--platform', platform, `${repository}:1`)),
      );
      const digest = images.find(image => image.platform === platform)?.digest;
      expect(annotations['org.opencontainers.image.base.digest']).toBe(digest);
      expect(told.platforms.find(each => each.platform === platform)?.sourceDigest).toBe(digest);
    }
  });

  test.each(forms)(
    'cosign verifies the source and its attestation by digest through Veneer, each as $form',
    async ({ options }) => {
      const pinned = `${repository}@${source}`;
      expect(await cosign('verify', ...VERIFY, ...options, pinned)).toContain(source);
      expect(await cosign('verify-attestation', ...VERIFY, ...options, ...ATTESTED, pinned)).toContain('payload');
      await expect(cosign('verify', ...VERIFY, ...options, `${repository}:1`)).rejects.toThrow(
        /no signatures found|no valid bundles exist|no matching attestations/,
      );
    },
  );

  test('oras discovers and pulls the SBOM of the source through Veneer', async () => {
    const referrers = await discover(`${repository}@${source}`);
    const sbom = referrers.find(({ artifactType }) => artifactType === SBOM_TYPE);
    await mkdir(join(environment.folder, 'sbom'));
    await oras('pull', '--plain-http', '--output', 'sbom', `${repository}@${sbom?.digest}`);
    expect(await readFile(join(environment.folder, 'sbom/sbom.json'), 'utf8')).toBe('{"spdxVersion":"SPDX-2.3"}');
  });

  test('the attestations that the source has in its index are there under its digest, and not in what the rules made', async () => {
    const { attestations, images } = await listEntries(`${repository}@${source}`);
    expect(attestations.map(({ about }) => about).sort()).toEqual(images.map(({ digest }) => digest).sort());
    expect((await listEntries(`${repository}:1`)).attestations).toEqual([]);
  });

  test('the tag of a signature is as it is upstream', async () => {
    const tag = `${source.replace(':', '-')}.sig`;
    expect(await crane('digest', '--insecure', `${repository}:${tag}`)).toBe(
      await crane('digest', '--insecure', `${environment.registry}/library/bb:${tag}`),
    );
  });

  test('where digests of the upstream are refused, cosign still verifies, and oras finds the SBOM upstream alone', async () => {
    const rules = [{ ...RULE, pinned: 'refused' }];
    const { address } = await environment.keep(startVeneer(environment.folder, environment.registry, { rules }));
    const pinned = `${address}/lab/library/bb@${source}`;
    await expect(crane('manifest', '--insecure', pinned)).rejects.toThrow('DENIED');
    for (const { options } of forms) expect(await cosign('verify', ...VERIFY, ...options, pinned)).toContain(source);
    await expect(discover(pinned)).rejects.toThrow(/403/);
    expect(await discover(`${environment.registry}/library/bb@${source}`)).not.toEqual([]);
  });

  async function discover(reference: string) {
    const told = await oras('discover', '--plain-http', '--format', 'json', reference);
    return Discovered.parse(JSON.parse(told)).referrers;
  }

  async function pullProvenance(digest: string | undefined) {
    const folder = join(environment.folder, 'provenance');
    await mkdir(folder);
    await oras('pull', '--plain-http', '--output', folder, `${repository}@${digest}`);
    return Provenance.parse(JSON.parse(await readFile(join(folder, 'provenance.json'), 'utf8')));
  }

  function explain(image: string): Promise<string> {
    const args = ['src/main.ts', 'rules', 'explain', image, '--json', '--server', `http://${veneer}`];
    return run(process.execPath, args);
  }

  function crane(...args: readonly string[]): Promise<string> {
    return run(clientPath('crane'), args);
  }

  function oras(...args: readonly string[]): Promise<string> {
    return run(clientPath('oras'), args, { cwd: environment.folder });
  }

  function cosign(...args: readonly string[]): Promise<string> {
    return run(clientPath('cosign'), args, { cwd: environment.folder, env: { COSIGN_PASSWORD: '' } });
  }
});
