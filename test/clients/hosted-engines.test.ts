// Engines and a builder push to hosted repositories and pull from them; what they pushed is augmented like any image.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PRINTED, requestAugmentation, submitAugmentation } from './support/augment.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startDocker, startVeneer } from './support/daemons.ts';
import { listEntries } from './support/entries.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { buildBusybox, buildImage, PLATFORMS } from './support/image.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'dockerd', 'docker', 'podman', 'oras', 'skopeo']);

describe.skipIf(missing)(`engines, hosted${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let host = '';
  let veneer = '';
  /** Three platforms with attestations, which BuildKit pushed to Veneer itself. */
  let image = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    host = (await environment.keep(startDocker(environment.folder))).host;
    veneer = (await environment.keep(startVeneer(environment.folder, environment.registry))).address;
    image = `${veneer}/local/app:1`;
    await buildBusybox(environment.folder, environment.buildkit, {
      image,
      options: ['--opt', 'attest:provenance=mode=max'],
    });
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test('BuildKit pushes three platforms with what it attests of them, all of it well-formed', async () => {
    const { images, attestations } = await listEntries(image);
    expect(images.map(({ platform }) => platform)).toEqual(PLATFORMS);
    expect(attestations.map(({ about }) => about)).toEqual(images.map(({ digest }) => digest));
    await validate(image);
  });

  test('BuildKit finds in a hosted repository the cache that it put there, when its own is gone', async () => {
    const context = join(environment.folder, 'cached');
    await mkdir(context);
    // Another layer each time, unless the step is taken from a cache.
    const step = 'RUN busybox cat /proc/sys/kernel/random/uuid >/id';
    await writeFile(join(context, 'Dockerfile'), `FROM ${image}\n${step}\n`);
    const cache = `type=registry,ref=${veneer}/local/cache:1`;
    const build = async (tag: string, ...options: readonly string[]) => {
      const built = `${veneer}/local/cached:${tag}`;
      await buildImage({ buildkit: environment.buildkit, context, image: built, options });
      await run(clientPath('buildctl'), ['--addr', environment.buildkit, 'prune', '--all']);
      return await crane('manifest', built);
    };
    const first = await build('1', '--export-cache', `${cache},mode=max`);
    expect(await build('2', '--import-cache', cache)).toBe(first);
    expect(await build('3')).not.toBe(first);
  });

  test('docker builds on a hosted image, pushes, and runs what it pulls when it has nothing left', async () => {
    const [built, second] = [`${veneer}/local/team/built:1`, `${veneer}/local/team/second:1`];
    const context = join(environment.folder, 'built');
    await mkdir(context);
    const steps = ['RUN echo pushed >/pushed', 'CMD ["/bin/busybox", "cat", "/pushed"]'];
    await writeFile(join(context, 'Dockerfile'), [`FROM ${image}`, ...steps].join('\n'));
    await run('docker', ['-H', host, 'build', '--quiet', '--network', 'none', '--tag', built, context], {
      env: { DOCKER_BUILDKIT: '0' },
    });
    const pushed = await docker('push', built);
    const digest = await crane('digest', built);
    expect(pushed).toContain(`1: digest: ${digest} `);
    expect(pushed).toContain('Mounted from local/app');
    expect(await docker('push', built)).toContain('Layer already exists');
    await docker('tag', built, second);
    expect(await docker('push', second)).toContain('Mounted from local/team/built');

    await docker('image', 'rm', built, second, image);
    expect(await docker('image', 'ls', '--all', '--quiet')).toBe('');
    expect(await docker('pull', second)).toContain(`Digest: ${digest}`);
    expect(await docker('run', '--rm', '--network', 'none', second)).toBe('pushed');
    await validate(built);
  });

  test('docker shows why it may not push to a repository that is not hosted', async () => {
    const foreign = `${veneer}/lab/library/bb:pushed`;
    await docker('pull', image);
    await docker('tag', image, foreign);
    const reason = 'unsupported: lab/library/bb is in lab, and not hosted here';
    await expect(docker('push', foreign)).rejects.toThrow(reason);
  });

  test.each(['oci', 'v2s2'])(
    'podman pushes the format %s, and pulls the same image when it has nothing left',
    async format => {
      const [tag, digestFile] = [`${veneer}/local/podman:${format}`, join(environment.folder, `podman-${format}`)];
      const id = await podman('pull', '--quiet', '--tls-verify=false', image);
      await podman('push', '--tls-verify=false', '--format', format, '--digestfile', digestFile, id, tag);
      expect(await crane('digest', tag)).toBe(await readFile(digestFile, 'utf8'));
      await validate(tag);
      await podman('rmi', '--all', '--force');
      expect(await podman('pull', '--quiet', '--tls-verify=false', tag)).toBe(id);
    },
  );

  test('docker runs the augmented hosted image on three platforms', async () => {
    const { targetImage } = await submitAugmentation(veneer, 'local/app:1');
    for (const platform of PLATFORMS) {
      await docker('pull', '--platform', platform, targetImage);
      const options = ['--rm', '--network', 'none', '--platform', platform];
      expect(await docker('run', ...options, targetImage), platform).toBe(PRINTED);
    }
    await validate(targetImage);
  });

  test('docker runs the augmented hosted image of the format v2s2', async () => {
    const [plain, docker2] = [`${veneer}/local/docker:plain`, `${veneer}/local/docker:v2s2`];
    await buildBusybox(environment.folder, environment.buildkit, { image: plain });
    const options = ['--all', '--format', 'v2s2', '--src-tls-verify=false', '--dest-tls-verify=false'];
    await run('skopeo', ['copy', ...options, `docker://${plain}`, `docker://${docker2}`]);
    const { targetImage } = await submitAugmentation(veneer, docker2);
    expect(await docker('run', '--rm', '--network', 'none', targetImage)).toBe(PRINTED);
  });

  test('a new push of the tag changes nothing for who has augmented what was there', async () => {
    const tag = `${veneer}/local/moved:1`;
    await crane('copy', image, tag);
    const { targetImage, targetDigest } = await submitAugmentation(veneer, tag);
    await crane('copy', '--platform', 'linux/arm64', image, tag);
    expect(await crane('digest', targetImage)).toBe(targetDigest);
    expect((await submitAugmentation(veneer, tag)).targetDigest).not.toBe(targetDigest);
  });

  test('an artifact is pulled as it was pushed, and its augmentation is refused', async () => {
    const artifact = `${veneer}/local/artifact:1`;
    await writeFile(join(environment.folder, 'note.txt'), 'a note\n');
    const type = ['--artifact-type', 'application/vnd.example.note'];
    await run(clientPath('oras'), ['push', '--plain-http', ...type, artifact, 'note.txt'], { cwd: environment.folder });
    const refused = await requestAugmentation(veneer, 'local/artifact:1', {});
    expect([refused.status, await refused.text()]).toEqual([400, expect.stringContaining('it is not an image')]);
    expect(JSON.parse(await crane('manifest', artifact))).toMatchObject({
      artifactType: 'application/vnd.example.note',
    });
  });

  function docker(...args: readonly string[]): Promise<string> {
    return run('docker', ['-H', host, ...args]);
  }

  function podman(...args: readonly string[]): Promise<string> {
    const roots = ['--root', join(environment.folder, 'podman'), '--runroot', join(environment.folder, 'podman-run')];
    return run('podman', [...roots, '--storage-driver', 'vfs', ...args]);
  }

  function crane(...args: readonly string[]): Promise<string> {
    return run(clientPath('crane'), args);
  }

  async function validate(reference: string): Promise<void> {
    await expect(crane('validate', '--remote', reference)).resolves.toMatch(/^PASS/);
  }
});
