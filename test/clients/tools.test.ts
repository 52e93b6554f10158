// Tools that copy, check and rewrite images accept what Veneer serves, and agree with it.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { PROVENANCE_TYPE } from '../../src/augment/provenance.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { ADDED, makeTar, submitAugmentation } from './support/augment.ts';
import { checkBlobs } from './support/blobs.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startVeneer } from './support/daemons.ts';
import { listEntries } from './support/entries.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { PLATFORMS } from './support/image.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'oras', 'regctl', 'skopeo', 'podman']);
const PodmanConfig = z.object({ Env: z.array(z.string()), WorkingDir: z.string(), Cmd: z.array(z.string()) });
const Told = z.object({
  source: z.object({ name: z.string(), digest: z.string(), index: z.string().optional() }),
  platform: z.string().optional(),
  rules: z.array(z.string()),
  steps: z.array(z.object({ changes: z.record(z.string(), z.unknown()) })),
});
const Referrers = z.object({ referrers: z.array(z.object({ digest: z.string(), artifactType: z.string() })) });

describe.skipIf(missing)(`tools${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let veneer = '';
  let image = '';
  let digest = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    veneer = (await environment.keep(startVeneer(environment.folder, environment.registry))).address;
    ({ targetImage: image, targetDigest: digest } = await submitAugmentation(veneer, environment.source));
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('crane finds every digest, size and diffID right', async () => {
    await expect(run(clientPath('crane'), ['validate', '--insecure', '--remote', image])).resolves.toMatch(/^PASS/);
  });

  test('skopeo copies the three platforms to a layout that holds what it says', async () => {
    const layout = join(environment.folder, 'layout');
    await run('skopeo', ['copy', '--all', '--src-tls-verify=false', `docker://${image}`, `oci:${layout}:1`]);
    const { images } = await checkBlobs(layout, digest);
    expect(images).toBe(PLATFORMS.length);
  });

  test('podman pulls it, and sees the changed config', async () => {
    const roots = ['--root', join(environment.folder, 'podman'), '--runroot', join(environment.folder, 'podman-run')];
    const podman = (...args: readonly string[]) => run('podman', [...roots, '--storage-driver', 'vfs', ...args]);
    const id = await podman('pull', '--quiet', '--tls-verify=false', image);
    const config = PodmanConfig.parse(JSON.parse(await podman('image', 'inspect', '-f', '{{json .Config}}', id)));
    expect(config).toEqual({ Env: ['PATH=/bin', 'BASE=1', ADDED.env], WorkingDir: ADDED.workingDir, Cmd: ADDED.cmd });
  });

  test('oras fetches the index by tag and by digest, and finds the digest that was promised', async () => {
    const pinned = `${image.replace(/:[^:/]+$/, '')}@${digest}`;
    for (const reference of [image, pinned]) {
      const output = join(environment.folder, 'index.json');
      await oras('manifest', 'fetch', '--plain-http', '--output', output, reference);
      expect(digestOf(await readFile(output))).toBe(digest);
    }
  });

  test('oras discovers and pulls what is attached to the source, and finds none of it at the augmented image', async () => {
    const artifactType = 'application/vnd.example.note';
    await writeFile(join(environment.folder, 'note.txt'), 'a note\n');
    await oras('attach', '--plain-http', '--artifact-type', artifactType, environment.source, 'note.txt:text/plain');
    const [note, ...others] = await discover(`${veneer}/lab/library/bb:1`);
    expect(others).toEqual([]);
    expect(note?.artifactType).toBe(artifactType);
    await mkdir(join(environment.folder, 'pulled'));
    await oras('pull', '--plain-http', '--output', 'pulled', `${veneer}/lab/library/bb@${note?.digest}`);
    expect(await readFile(join(environment.folder, 'pulled/note.txt'), 'utf8')).toBe('a note\n');
    expect((await discover(image)).map(each => each.artifactType)).toEqual([PROVENANCE_TYPE]);
  });

  test('oras pulls the provenance of the augmented image, and regctl lists and shows the same for each platform', async () => {
    const [found] = await discover(image);
    await mkdir(join(environment.folder, 'provenance'));
    await oras('pull', '--plain-http', '--output', 'provenance', `${image.replace(/:[^:/]+$/, '')}@${found?.digest}`);
    const told = Told.parse(JSON.parse(await readFile(join(environment.folder, 'provenance/provenance.json'), 'utf8')));
    expect(told).toMatchObject({
      source: { name: environment.source, digest: await digestAt(environment.source) },
      rules: [],
    });
    expect(await regctl('artifact', 'list', image, '--format', '{{range .Descriptors}}{{.Digest}}{{end}}')).toBe(
      found?.digest,
    );
    for (const platform of PLATFORMS) {
      const ofImage = Told.parse(
        JSON.parse(await regctl('artifact', 'get', '--subject', image, '--platform', platform)),
      );
      expect(ofImage).toMatchObject({
        platform,
        source: { index: told.source.digest },
        steps: [{ changes: { workingDir: ADDED.workingDir } }],
      });
    }
  });

  test('regctl makes the same effective config of the same changes', async () => {
    const tar = join(environment.folder, 'layer.tar');
    const modified = `${environment.registry}/library/modified:1`;
    await writeFile(tar, await makeTar());
    await run(clientPath('regctl'), [
      ...[
        '--host',
        `reg=${environment.registry},tls=disabled`,
        'image',
        'mod',
        environment.source,
        '--create',
        modified,
      ],
      ...['--env', ADDED.env, '--workdir', ADDED.workingDir, '--config-cmd', JSON.stringify(ADDED.cmd)],
      ...['--label', `added=${ADDED.label}`, '--layer-add', `tar=${tar}`],
    ]);
    const { images } = await listEntries(image);
    expect(images.map(({ platform }) => platform)).toEqual(PLATFORMS);
    for (const platform of PLATFORMS) {
      expect(await readConfig(image, platform)).toEqual(await readConfig(modified, platform));
    }
  });

  async function oras(...args: readonly string[]): Promise<string> {
    return await run(clientPath('oras'), args, { cwd: environment.folder });
  }

  async function regctl(...args: readonly string[]): Promise<string> {
    const [host = ''] = image.split('/');
    return await run(clientPath('regctl'), ['--host', `reg=${host},tls=disabled`, ...args]);
  }

  async function digestAt(reference: string): Promise<string> {
    return await run(clientPath('crane'), ['digest', '--insecure', reference]);
  }

  async function discover(reference: string) {
    return Referrers.parse(JSON.parse(await oras('discover', '--plain-http', '--format', 'json', reference))).referrers;
  }
});

/** All of an image config but when and how it was made. */
async function readConfig(image: string, platform: string): Promise<unknown> {
  const text = await run(clientPath('crane'), ['config', '--insecure', '--platform', platform, image]);
  const { created, history, ...effective } = z.record(z.string(), z.unknown()).parse(JSON.parse(text));
  return effective;
}
