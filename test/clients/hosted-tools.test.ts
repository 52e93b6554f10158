// Tools that copy, check and rewrite push to hosted repositories, and find there what they brought, digest by digest.
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { mediaTypes } from '../../src/oci/media-type.ts';
import { makeTar } from './support/augment.ts';
import { checkBlobs } from './support/blobs.ts';
import { createBuildsClient } from './support/builds.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { startVeneer } from './support/daemons.ts';
import { listEntries } from './support/entries.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { buildBusybox, PLATFORMS } from './support/image.ts';
import { run } from './support/process.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'oras', 'regctl', 'skopeo']);
const NOTE_TYPE = 'application/vnd.example.note';
const Config = z.object({ config: z.object({ Env: z.array(z.string()) }) });
const Document = z.object({ mediaType: z.string(), layers: z.array(z.unknown()).default([]) });
const Referrers = z.object({ referrers: z.array(z.object({ digest: z.string(), artifactType: z.string() })) });

describe.skipIf(missing)(`tools, to hosted repositories${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  /** host:port/local, under which repositories are hosted. */
  let hosted = '';
  /** Of the environment's source. */
  let digest = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    hosted = `${(await environment.keep(startVeneer(environment.folder, environment.registry))).address}/local`;
    digest = await crane('digest', environment.source);
    await writeFile(join(environment.folder, 'note.txt'), 'a note\n');
    await writeFile(join(environment.folder, 'other.txt'), 'another\n');
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  describe('crane', () => {
    test('copies an image with its attestations, and finds every digest, size and diffID right', async () => {
      const image = `${hosted}/crane/copied:1`;
      await crane('copy', environment.source, image);
      expect(await crane('digest', image)).toBe(digest);
      expect(await listEntries(image)).toEqual(await listEntries(environment.source));
      await validate(image);
    });

    test('pushes a layout and an archive', async () => {
      const [layout, archive] = [join(environment.folder, 'pulled-layout'), join(environment.folder, 'pulled.tar')];
      await crane('pull', '--format', 'oci', environment.source, layout);
      await crane('push', '--index', layout, `${hosted}/crane/pushed:layout`);
      await validate(`${hosted}/crane/pushed@${digest}`);
      await crane('pull', '--platform', 'linux/arm64', environment.source, archive);
      await crane('push', archive, `${hosted}/crane/pushed:archive`);
      await validate(`${hosted}/crane/pushed:archive`);
    });

    test('appends a layer and mutates a config, both from hosted to hosted', async () => {
      const repository = `${hosted}/crane/changed`;
      await writeFile(join(environment.folder, 'layer.tar'), await makeTar());
      await crane('copy', '--platform', 'linux/arm64', environment.source, `${repository}:base`);
      await crane(
        'append',
        '-b',
        `${repository}:base`,
        '-f',
        join(environment.folder, 'layer.tar'),
        '-t',
        `${repository}:more`,
      );
      await crane('mutate', '--env', 'ADDED=yes', '-t', `${repository}:mutated`, `${repository}:more`);
      await validate(`${repository}:mutated`);
      const layersOf = async (tag: string) => (await readManifest(`${repository}:${tag}`)).layers;
      expect(await layersOf('mutated')).toEqual([...(await layersOf('base')), expect.anything()]);
      const { config } = Config.parse(JSON.parse(await crane('config', `${repository}:mutated`)));
      expect(config.Env).toContain('ADDED=yes');
    });

    test('lists tags, and deletes one tag, and then the manifest with the others', async () => {
      const repository = `${hosted}/crane/listed`;
      await crane('copy', environment.source, `${repository}:1`);
      for (const tag of ['2', '3']) await crane('tag', `${repository}:1`, tag);
      expect(await crane('ls', repository)).toBe('1\n2\n3');
      await crane('delete', `${repository}:2`);
      expect(await crane('ls', repository)).toBe('1\n3');
      await validate(`${repository}:1`);
      await crane('delete', `${repository}@${digest}`);
      expect(await crane('ls', repository)).toBe('');
      await expect(crane('manifest', `${repository}:3`)).rejects.toThrow('MANIFEST_UNKNOWN');
    });
  });

  describe('skopeo', () => {
    test('copies all images and attestations to a hosted repository and on to a layout, with their digests', async () => {
      const layout = join(environment.folder, 'skopeo-layout');
      await skopeo('--preserve-digests', `docker://${environment.source}`, `docker://${hosted}/skopeo:kept`);
      await skopeo('--preserve-digests', `docker://${hosted}/skopeo:kept`, `oci:${layout}:kept`);
      const { images } = await checkBlobs(layout, digest);
      expect(images).toBe(PLATFORMS.length);
    });

    test.each([
      { format: 'v2s2', list: mediaTypes.dockerList, manifest: mediaTypes.dockerManifest },
      { format: 'oci', list: mediaTypes.ociIndex, manifest: mediaTypes.ociManifest },
    ])('pushes the format $format, which another registry takes from there as it is', async ({ format, ...types }) => {
      const [plain, image] = [`${environment.registry}/library/plain:1`, `${hosted}/skopeo:${format}`];
      const copied = `${environment.registry}/library/skopeo:${format}`;
      // What BuildKit attests has no form in Docker's family.
      await buildBusybox(environment.folder, environment.buildkit, { image: plain });
      await skopeo('--format', format, `docker://${plain}`, `docker://${image}`);
      expect((await readManifest(image)).mediaType).toBe(types.list);
      const entries = await listEntries(image);
      expect(entries.images.map(({ platform }) => platform)).toEqual(PLATFORMS);
      for (const entry of entries.images) {
        expect((await readManifest(`${hosted}/skopeo@${entry.digest}`)).mediaType).toBe(types.manifest);
      }
      await validate(image);
      await skopeo('--preserve-digests', `docker://${image}`, `docker://${copied}`);
      expect(await crane('digest', copied)).toBe(await crane('digest', image));
    });
  });

  describe('oras', () => {
    test('pushes files, attaches one, discovers it, and pulls all of them', async () => {
      const artifact = `${hosted}/oras/files:1`;
      await oras('push', '--plain-http', '--artifact-type', NOTE_TYPE, artifact, 'note.txt:text/plain', 'other.txt');
      await oras('attach', '--plain-http', '--artifact-type', NOTE_TYPE, artifact, 'note.txt:text/plain');
      const [attached, ...others] = await discover(artifact);
      expect(others).toEqual([]);
      expect(attached?.artifactType).toBe(NOTE_TYPE);
      for (const reference of [artifact, `${hosted}/oras/files@${attached?.digest}`]) {
        const folder = join(environment.folder, 'oras-pulled', `${reference.length}`);
        await mkdir(folder, { recursive: true });
        await oras('pull', '--plain-http', '--output', folder, reference);
        expect(await readFile(join(folder, 'note.txt'), 'utf8')).toBe('a note\n');
      }
      expect(await oras('repo', 'tags', '--plain-http', `${hosted}/oras/files`)).toBe('1');
    });

    test('pulls an image that was converted for Singularity', async () => {
      const script = `printf '#!/usr/bin/env run-singularity\\n' > "$2"; cat "$1/index.json" >> "$2"`;
      const sif = { command: ['sh', '-c', script, 'sh', '{layout}', '{output}'] };
      const { address } = await environment.keep(
        startVeneer(environment.folder, environment.registry, { builds: { backends: ['embedded'], sif } }),
      );
      const body = {
        containerImage: environment.source,
        containerPlatform: 'linux/arm64',
        freeze: true,
        format: 'sif',
      };
      const { targetImage, digest: made } = await createBuildsClient(address).build(body);
      const reference = targetImage.replace('oras://', '');
      const folder = join(environment.folder, 'oras-sif');
      await mkdir(folder);
      await oras('pull', '--plain-http', '--output', folder, reference);
      const [file = ''] = await readdir(folder);
      expect(file).toMatch(/^builds_[0-9a-f]{16}\.sif$/);
      expect(await readFile(join(folder, file), 'utf8')).toMatch(/^#!\/usr\/bin\/env run-singularity\n.*sha256:/);
      expect(await oras('resolve', '--plain-http', reference)).toBe(made);
    });

    test('copies an image and what is attached to it, from another registry and between hosted repositories', async () => {
      const source = `${environment.registry}/library/noted:1`;
      const [first, second] = [`${hosted}/oras/first:1`, `${hosted}/oras/second:1`];
      await crane('copy', environment.source, source);
      await oras('attach', '--plain-http', '--artifact-type', NOTE_TYPE, source, 'note.txt:text/plain');
      const attached = await discover(source);
      expect(attached).toHaveLength(1);
      for (const [from, to] of [
        [source, first],
        [first, second],
      ] as const) {
        await oras('copy', '--recursive', '--from-plain-http', '--to-plain-http', from, to);
        expect(await crane('digest', to)).toBe(digest);
        expect(await discover(to)).toEqual(attached);
      }
      await validate(second);
    });
  });

  describe('regctl', () => {
    test('copies an image with its referrers and digest tags, into hosted repositories and out of them', async () => {
      const tags = ['1', `${digest.replace(':', '-')}.note`];
      const [first, second] = [`${hosted}/regctl/first`, `${hosted}/regctl/second`];
      const outside = `${environment.registry}/library/regctl`;
      await regctl('image', 'copy', environment.source, `${first}:1`);
      await oras('attach', '--plain-http', '--artifact-type', NOTE_TYPE, `${first}:1`, 'note.txt:text/plain');
      await regctl('artifact', 'put', '--artifact-type', NOTE_TYPE, '--file', 'note.txt', `${first}:${tags[1]}`);
      const attached = await discover(`${first}:1`);
      expect(attached).toHaveLength(1);
      for (const repository of [second, outside]) {
        await regctl('image', 'copy', '--referrers', '--digest-tags', `${first}:1`, `${repository}:1`);
        expect(await crane('digest', `${repository}:1`)).toBe(digest);
        expect(await discover(`${repository}:1`)).toEqual(attached);
      }
      expect((await regctl('tag', 'ls', second)).split('\n')).toEqual(tags);
      // A registry without the referrers API lists them under tags of their own.
      expect((await regctl('tag', 'ls', outside)).split('\n')).toEqual(expect.arrayContaining(tags));
    });

    test('puts an artifact about an image, lists it and gets it', async () => {
      const image = `${hosted}/regctl/noted:1`;
      await regctl('image', 'copy', environment.source, image);
      await regctl('artifact', 'put', '--artifact-type', NOTE_TYPE, '--file', 'note.txt', '--subject', image);
      const listed = await regctl(
        'artifact',
        'list',
        image,
        '--format',
        '{{range .Descriptors}}{{.ArtifactType}}{{end}}',
      );
      expect(listed).toBe(NOTE_TYPE);
      expect(await regctl('artifact', 'get', '--subject', image, '--filter-artifact-type', NOTE_TYPE)).toBe('a note');
    });

    test('removes one tag of a manifest, and keeps the other', async () => {
      const repository = `${hosted}/regctl/tags`;
      for (const tag of ['1', '2']) await regctl('image', 'copy', environment.source, `${repository}:${tag}`);
      await regctl('tag', 'rm', `${repository}:1`);
      expect(await regctl('tag', 'ls', repository)).toBe('2');
      await validate(`${repository}:2`);
    });
  });

  function crane(...args: readonly string[]): Promise<string> {
    return run(clientPath('crane'), args);
  }

  async function validate(image: string): Promise<void> {
    await expect(crane('validate', '--remote', image)).resolves.toMatch(/^PASS/);
  }

  async function readManifest(image: string): Promise<z.output<typeof Document>> {
    return Document.parse(JSON.parse(await crane('manifest', image)));
  }

  function skopeo(...args: readonly string[]): Promise<string> {
    return run('skopeo', ['copy', '--all', '--src-tls-verify=false', '--dest-tls-verify=false', ...args]);
  }

  function oras(...args: readonly string[]): Promise<string> {
    return run(clientPath('oras'), args, { cwd: environment.folder });
  }

  function regctl(...args: readonly string[]): Promise<string> {
    const hosts = [hosted.replace(/\/local$/, ''), environment.registry].flatMap(host => [
      '--host',
      `reg=${host},tls=disabled`,
    ]);
    return run(clientPath('regctl'), [...hosts, ...args], { cwd: environment.folder });
  }

  async function discover(reference: string) {
    return Referrers.parse(JSON.parse(await oras('discover', '--plain-http', '--format', 'json', reference))).referrers;
  }
});
