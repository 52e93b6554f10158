// `veneer augment`, as it is typed: the request that its options make, and the layers it sends.
import { chmod, mkdir, mkdtemp, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { createAugmentCommand } from '../../src/cli/augment.ts';
import { BUILD_ID, type BuildService, DIGEST, depsOf, startBuildService } from './build-service.ts';
import { runCommand } from './run.ts';

const IMAGE = 'docker.io/library/alpine:3';

let service: BuildService;
let folder: string;

beforeEach(async () => {
  service = await startBuildService();
  service.answer = { succeeded: true, targetDigest: DIGEST };
  folder = await mkdtemp(join(tmpdir(), 'veneer-augment-'));
});

afterEach(async () => {
  await service.close();
  await rm(folder, { recursive: true });
});

function run(...args: readonly string[]) {
  return runCommand(createAugmentCommand(depsOf(service)), args);
}

test('prints the reference, and explains its digest', async () => {
  expect(await run(IMAGE, '--env', 'A=1')).toEqual({
    out: `${service.url.host}/wt/0123456789ab/local/builds:1\n`,
    err: `digest ${DIGEST}\n`,
    exitCode: 0,
  });
});

test('says which files lie where the links of the image lead', async () => {
  const entries = [{ from: 'bin/tool', to: 'usr/bin/tool' }];
  service.answer = { succeeded: true, targetDigest: DIGEST, moved: [{ platform: 'linux/amd64', entries, count: 3 }] };
  const { err } = await run(IMAGE, '--env', 'A=1');
  expect(err).toBe(`linux/amd64, by its links: bin/tool → usr/bin/tool, 2 more\ndigest ${DIGEST}\n`);
});

test('a frozen image is waited for', async () => {
  service.answer = { buildId: 'mr-0123456789abcdef_1', targetImage: 'local/app:1', freeze: true };
  expect(await run(IMAGE, '-t', 'local/app:1')).toMatchObject({ out: 'local/app:1\n', exitCode: 0 });
  expect(service.requests.at(-1)?.path).toBe('/v1alpha1/mirrors/mr-0123456789abcdef_1/logs');
});

test('a copy that fails is exit code 1', async () => {
  service.answer = { buildId: BUILD_ID, mirror: true };
  service.build = { status: 'failed', reason: 'quay.io: 404' };
  expect(await run(IMAGE, '--mirror', '-t', 'local/alpine')).toMatchObject({ out: '', exitCode: 1 });
});

const requests: [string, string[], object][] = [
  ['nothing', [], {}],
  ['platforms', ['--platform', 'arm64', '--platform', 'linux/amd64'], { containerPlatform: 'arm64,linux/amd64' }],
  ['env, in order', ['--env', 'B=1', '--env', 'A=x=y'], { containerConfig: { env: ['B=1', 'A=x=y'] } }],
  ['labels', ['--label', 'a=1', '--label', 'b=', '--label', 'a=2'], { containerConfig: { labels: { a: '2', b: '' } } }],
  ['an entrypoint in JSON', ['--entrypoint', '["sh","-c"]'], { containerConfig: { entrypoint: ['sh', '-c'] } }],
  [
    'an entrypoint in words',
    ['--entrypoint', 'sh', '--entrypoint', '-c'],
    { containerConfig: { entrypoint: ['sh', '-c'] } },
  ],
  ['a command', ['--cmd', 'echo', '--cmd', 'hello there'], { containerConfig: { cmd: ['echo', 'hello there'] } }],
  [
    'directory and user',
    ['--workdir', '/srv', '--user', '1000:1000'],
    { containerConfig: { workingDir: '/srv', user: '1000:1000' } },
  ],
  ['ports', ['--port', '80', '--port', '53/udp'], { containerConfig: { exposedPorts: ['80', '53/udp'] } }],
  ['annotations', ['--annotation', 'a.b=c'], { containerConfig: { annotations: { 'a.b': 'c' } } }],
  ['includes', ['--include', 'a:1', '--include', 'b:2'], { containerIncludes: ['a:1', 'b:2'] }],
  ['a name', ['-t', 'local/app:1'], { buildRepository: 'local/app', buildTag: '1', freeze: true }],
  ['freeze', ['--freeze'], { freeze: true }],
  [
    'a mirror',
    ['--mirror', '-t', 'local/alpine:3'],
    { buildRepository: 'local/alpine', buildTag: '3', freeze: false, mirror: true },
  ],
];

test.each(requests)('%s becomes its field', async (_, args, fields) => {
  await run(IMAGE, ...args);
  expect(service.submitted).toEqual([{ containerImage: IMAGE, ...fields }]);
});

const layersSchema = z.object({
  containerConfig: z.object({
    layers: z.array(z.looseObject({ location: z.string(), platforms: z.array(z.string()).optional() })),
  }),
});

const layersOf = (body: unknown) => layersSchema.parse(body).containerConfig.layers;

async function readTar(location: string | undefined) {
  const reader = extract();
  Readable.from([gunzipSync(Buffer.from(location?.replace(/^data:/, '') ?? '', 'base64'))]).pipe(reader);
  const entries: object[] = [];
  for await (const entry of reader) {
    const { name, type, mode = 0, linkname, mtime, uid, gid } = entry.header;
    const text = (await buffer(entry)).toString();
    entries.push({
      name,
      type,
      mode: mode.toString(8),
      text: linkname ?? text,
      owner: `${uid}:${gid}`,
      time: mtime?.getTime(),
    });
  }
  return entries;
}

describe('a layer', () => {
  beforeEach(async () => {
    await mkdir(join(folder, 'layer/opt/bin'), { recursive: true });
    await writeFile(join(folder, 'layer/opt/bin/tool'), '#!/bin/sh\n');
    await chmod(join(folder, 'layer/opt/bin/tool'), 0o4755);
    await chmod(join(folder, 'layer/opt'), 0o755);
    await chmod(join(folder, 'layer/opt/bin'), 0o700);
    await writeFile(join(folder, 'layer/.dockerignore'), 'opt\n');
    await chmod(join(folder, 'layer/.dockerignore'), 0o600);
    await symlink('/opt/bin/tool', join(folder, 'layer/tool'));
  });

  test('of a directory has all that is in it, with modes and links, and no times or owners', async () => {
    await run(IMAGE, '--layer', join(folder, 'layer'));
    const [layer] = layersOf(service.submitted[0]);
    const nobody = { owner: '0:0', time: 0 };
    expect(await readTar(layer?.location)).toEqual([
      { name: '.dockerignore', type: 'file', mode: '600', text: 'opt\n', ...nobody },
      { name: 'opt', type: 'directory', mode: '755', text: '', ...nobody },
      { name: 'opt/bin', type: 'directory', mode: '700', text: '', ...nobody },
      { name: 'opt/bin/tool', type: 'file', mode: '4755', text: '#!/bin/sh\n', ...nobody },
      { name: 'tool', type: 'symlink', mode: '777', text: '/opt/bin/tool', ...nobody },
    ]);
  });

  test('of the same files is the same bytes', async () => {
    await run(IMAGE, '--layer', join(folder, 'layer'));
    await utimes(join(folder, 'layer/opt/bin/tool'), 1, 1);
    await run(IMAGE, '--layer', join(folder, 'layer'));
    expect(service.submitted[1]).toEqual(service.submitted[0]);
  });

  test('may be a directory, a tar or at a URL, in the order given, for all platforms or some', async () => {
    await writeFile(join(folder, 'layer.tar'), 'as it is');
    const places = [
      `${join(folder, 'layer')}:linux/arm64`,
      `${join(folder, 'layer.tar')}:linux/amd64,linux/arm/v7`,
      'https://files.example:8443/layer.tar.gz',
      'http://files.example:8080/layer.tar.gz:linux/x86_64',
      `oci://ghcr.io/team/layers@${DIGEST}`,
    ];
    await run(IMAGE, ...places.flatMap(place => ['--layer', place]));
    expect(layersOf(service.submitted[0])).toEqual([
      {
        location: expect.stringMatching(/^data:H4sI/),
        gzipDigest: expect.any(String),
        gzipSize: expect.any(Number),
        platforms: ['linux/arm64'],
      },
      {
        location: `data:${btoa('as it is')}`,
        gzipDigest: expect.any(String),
        gzipSize: 8,
        platforms: ['linux/amd64', 'linux/arm/v7'],
      },
      { location: 'https://files.example:8443/layer.tar.gz' },
      { location: 'http://files.example:8080/layer.tar.gz', platforms: ['linux/amd64'] },
      { location: `oci://ghcr.io/team/layers@${DIGEST}` },
    ]);
  });
});

test.each([
  ['no image', [], "missing required argument 'image'"],
  ['a layer that is not there', [IMAGE, '--layer', 'missing'], 'there is no missing'],
  ['a layer without a place', [IMAGE, '--layer', ''], 'expected a directory, a tar or a URL'],
  ['a layer for a platform that is none', [IMAGE, '--layer', 'x:linux/a b'], '"linux/a b" is not a platform'],
  ['a device as layer', [IMAGE, '--layer', '/dev/null'], '/dev/null is neither a file nor a directory'],
  ['a directory with devices', [IMAGE, '--layer', '/dev'], 'is a socket, a fifo or a device, which no layer has'],
  ['a variable without a value', [IMAGE, '--env', 'KEY'], 'expected KEY=value'],
  [
    'an entrypoint that is half JSON',
    [IMAGE, '--entrypoint', '["sh"'],
    'expected an argument, or a JSON list of strings',
  ],
  ['an entrypoint of numbers', [IMAGE, '--entrypoint', '[1]'], 'expected an argument, or a JSON list of strings'],
  ['a platform that is none', [IMAGE, '--platform', ''], '"" is not a platform'],
])('%s is refused, and nothing is asked for', async (_, args, message) => {
  const { out, err, exitCode } = await run(...args);
  expect({ out, exitCode }).toEqual({ out: '', exitCode: 1 });
  expect(err).toContain(message);
  expect(service.submitted).toEqual([]);
});
