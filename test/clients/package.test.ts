// The package that `npm pack` makes, installed where nothing else is: it runs by itself, with its threads.
import { globSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { htpasswdOf } from '../access/fixture.ts';
import { startCollector } from '../support/collector.ts';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { checkUrl, findFreePort, run, startProcess } from './support/process.ts';

const packedSchema = z.tuple([
  z.object({ filename: z.string(), version: z.string(), files: z.array(z.object({ path: z.string() })) }),
]);
type Packed = z.output<typeof packedSchema>[0];

const authorization = `Basic ${btoa('me:password')}`;
let folder: string;
let registry: TestRegistry;
let packed: Packed;
let installed: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'veneer-package-'));
  registry = await startRegistry();
  const output = await run('npm', ['pack', '--json', '--pack-destination', folder]);
  // What is built before it says so first.
  [packed] = packedSchema.parse(JSON.parse(output.slice(output.search(/^\[$/m))));
  await run('npm', [
    'install',
    '--offline',
    '--no-audit',
    '--no-fund',
    '--prefix',
    folder,
    join(folder, packed.filename),
  ]);
  installed = join(folder, 'node_modules/veneer');
});

afterAll(async () => {
  await registry?.close();
  await rm(folder, { recursive: true });
});

test('holds the built program, with its source maps and licences, and nothing else', () => {
  const paths = packed.files.map(({ path }) => path);
  expect(paths.filter(path => !path.startsWith('dist/'))).toEqual(['LICENSE', 'README.md', 'package.json']);
  expect(paths).toContain('dist/LICENSES.txt');
  const programs = paths.filter(path => path.endsWith('.mjs'));
  expect(programs).toContain('dist/veneer.mjs');
  expect(paths.filter(path => !/\.(mjs|mjs\.map|txt)$/.test(path))).toEqual(['LICENSE', 'README.md', 'package.json']);
});

test('names the licence of each package that it holds', async () => {
  const licences = await readFile(join(installed, 'dist/LICENSES.txt'), 'utf8');
  const sources = globSync(join(installed, 'dist/*.map')).map(async path => JSON.parse(await readFile(path, 'utf8')));
  const bundled = (await Promise.all(sources)).flatMap(({ sources }: { readonly sources: readonly string[] }) =>
    sources.flatMap(source => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(source)?.[1] ?? []),
  );
  expect(bundled).toContain('hono');
  expect(
    [...new Set(bundled)].filter(name => !licences.includes(`\n${name} `) && !licences.startsWith(`${name} `)),
  ).toEqual([]);
});

test('is ASCII, of which V8 keeps one byte for each character', async () => {
  const programs = globSync(join(installed, 'dist/*.mjs'));
  const texts = await Promise.all(programs.map(async path => [path, await readFile(path, 'latin1')] as const));
  expect(texts.flatMap(([path, text]) => (/[\u0080-\u00ff]/.test(text) ? [path] : []))).toEqual([]);
});

test('brings no other package along, and runs nothing when it is installed', async () => {
  expect(globSync(join(folder, 'node_modules/*'))).toEqual([installed]);
  const { scripts } = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8'));
  expect(Object.keys(scripts).filter(name => /install/.test(name))).toEqual([]);
});

test('runs as a command', async () => {
  const environment = { PATH: `${dirname(process.execPath)}:${process.env.PATH}` };
  const said = await run(join(folder, 'node_modules/.bin/veneer'), ['--version'], { cwd: folder, env: environment });
  expect(said).toBe(packed.version);
});

test('says in one line which Node it needs', async () => {
  const older = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '22.9.0' } })`;
  const args = ['--import', `data:text/javascript,${encodeURIComponent(older)}`, join(installed, 'dist/veneer.mjs')];
  await expect(run(process.execPath, args)).rejects.toMatchObject({
    code: 1,
    stderr: 'veneer needs Node 26 or newer; this is Node 22.9.0\n',
  });
});

test('loads neither a second undici, HTTP/2 nor Web Crypto with the modules of Node', async () => {
  const tell = `process.on('exit', () => console.log(process.moduleLoadList.join('\\n')))`;
  const args = ['--import', `data:text/javascript,${encodeURIComponent(tell)}`, join(installed, 'dist/veneer.mjs')];
  const loaded = await run(process.execPath, [...args, '--version']);
  expect(loaded).toContain('NativeModule http\n');
  expect(loaded).not.toMatch(/internal\/deps\/undici|http2|webcrypto/);
});

test('has what it loads later', async () => {
  const [path = '', ...others] = globSync(join(installed, 'dist/backend-*.mjs'));
  expect(others).toEqual([]);
  await expect(import(pathToFileURL(path).href)).resolves.toHaveProperty('createKubernetesBackend');
});

test('serves a pull to a user, reads an environment, and sends its last traces when it stops', async () => {
  await using collector = await startCollector();
  const { root, content } = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
  registry.put('team/app', [...content.values()]);
  const address = `127.0.0.1:${await findFreePort()}`;
  await writeFile(join(folder, 'htpasswd'), htpasswdOf({ me: 'password' }));
  await writeFile(
    join(folder, 'veneer.yaml'),
    JSON.stringify({
      listen: address,
      upstreams: { lab: { url: registry.url } },
      builds: { backends: ['embedded'] },
      access: {
        htpasswd: join(folder, 'htpasswd'),
        grants: [{ users: ['me'], repositories: ['**'], allow: ['pull', 'push'] }],
      },
    }),
  );
  const service = await startProcess(process.execPath, [join(installed, 'dist/veneer.mjs')], {
    cwd: folder,
    env: { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url },
    checkReady: () => checkUrl(`http://${address}/health/ready`),
  });
  try {
    const manifest = await fetch(`http://${address}/v2/lab/team/app/manifests/${root.digest}`, {
      headers: { authorization },
    });
    expect(Buffer.from(await manifest.bytes())).toEqual(Buffer.from(content.get(root.digest)?.raw ?? []));
    const packages = { type: 'CONDA', environment: btoa('a: [') };
    const refused = await fetch(`http://${address}/v1alpha2/container`, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/json' },
      body: JSON.stringify({ packages }),
    });
    expect(await refused.json()).toEqual({ message: expect.stringMatching(/^packages\.environment: not YAML/) });
    expect(service.readOutput()).not.toContain('died');
  } finally {
    await service.stop();
  }
  const names = collector.spans.map(({ name }) => name);
  expect(names).toContain('GET /v2/{name}/manifests/{reference}');
  expect(names).toContain('POST /v1alpha2/container');
});
