// `veneer build`, as it is typed: what is sent, what is printed, and clear refusals.
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { extract } from 'tar-stream';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createBuildCommand } from '../../src/cli/build.ts';
import type { ServiceCommandDeps } from '../../src/cli/service-command.ts';
import { digestOf } from '../../src/oci/digest.ts';
import { BUILD_ID, type BuildService, DIGEST, depsOf, sentContextSchema, startBuildService } from './build-service.ts';
import { runCommand } from './run.ts';
import { createTerminal } from './terminal.ts';

const FILE = 'FROM scratch\nCOPY . /\n';
const ENCODED = Buffer.from(FILE).toString('base64');

let service: BuildService;
let folder: string;

beforeEach(async () => {
  service = await startBuildService();
  service.answer = { succeeded: true, targetDigest: DIGEST };
  folder = await mkdtemp(join(tmpdir(), 'veneer-build-'));
  await writeFile(join(folder, 'Containerfile'), FILE);
});

afterEach(async () => {
  await service.close();
  await rm(folder, { recursive: true });
});

function run(args: readonly string[], deps: Partial<ServiceCommandDeps> = {}) {
  return runCommand(createBuildCommand({ ...depsOf(service), ...deps }), args);
}

/** The entries of the context of the last request. */
async function sentEntries() {
  const { location } = sentContextSchema.parse(service.submitted.at(-1)).buildContext;
  return readTar(gunzipSync(Buffer.from(location.replace(/^data:/, ''), 'base64')));
}

async function readTar(tar: Uint8Array) {
  const reader = extract();
  Readable.from([tar]).pipe(reader);
  const entries: Record<string, string> = {};
  for await (const entry of reader) {
    const { name, type, linkname } = entry.header;
    entries[name] = type === 'file' ? (await buffer(entry)).toString() : `${type} ${linkname ?? ''}`.trim();
    entry.resume();
  }
  return entries;
}

describe('what is printed', () => {
  test('the reference alone goes to standard output, the digest to standard error', async () => {
    expect(await run(['-f', join(folder, 'Containerfile')])).toEqual({
      out: `${service.url.host}/wt/0123456789ab/local/builds:1\n`,
      err: `digest ${DIGEST}\n`,
      exitCode: 0,
    });
  });

  test('--json prints the answer, with the build that was waited for', async () => {
    service.answer = { buildId: BUILD_ID, cached: false };
    const { out } = await run([folder, '--json']);
    expect(JSON.parse(out)).toMatchObject({
      targetImage: `${service.url.host}/wt/0123456789ab/local/builds:1`,
      targetDigest: DIGEST,
      succeeded: true,
      buildId: BUILD_ID,
      build: { buildId: BUILD_ID, status: 'succeeded', platforms: ['linux/amd64', 'linux/arm64'] },
    });
  });

  test('a dry run says so, and waits for nothing', async () => {
    service.answer = { buildId: BUILD_ID };
    const { out, err } = await run([folder, '--dry-run']);
    expect(out).toMatch(/local\/builds:1\n$/);
    expect(err).toBe('a dry run: nothing was started\n');
    expect(service.submitted).toMatchObject([{ dryRun: true }]);
    expect(service.requests.filter(({ path }) => path.endsWith('/logs'))).toEqual([]);
  });

  test('--no-await prints the reference at once, and how to see the build', async () => {
    service.answer = { buildId: BUILD_ID };
    service.log = [{ entries: [], ends: 'hang' }];
    const { out, err } = await run([folder, '--no-await']);
    expect(out).toMatch(/local\/builds:1\n$/);
    expect(err).toBe(`${BUILD_ID} is in progress: follow it with \`veneer builds log ${BUILD_ID}\`\n`);
  });
});

describe('what is sent', () => {
  test('every option has its field', async () => {
    await run([
      ...['--file', join(folder, 'Containerfile'), '--platform', 'linux/amd64,linux/arm64', '--platform', 'arm/v7'],
      ...[
        '--tag',
        'registry.example:5000/team/app:1.2',
        '--build-arg',
        'A=1',
        '--build-arg',
        'B=x=y',
        '--target',
        'final',
      ],
      ...[
        '--label',
        'team=blue',
        '--secret',
        'npm',
        '--secret',
        'pip',
        '--network',
        'none',
        '--provenance',
        'max',
        '--sbom',
      ],
      ...['--cache', 'local/cache', '--compression', 'zstd:9', '--timeout', '10m'],
    ]);
    expect(service.submitted).toEqual([
      {
        containerFile: ENCODED,
        containerPlatform: 'linux/amd64,linux/arm64,arm/v7',
        buildRepository: 'registry.example:5000/team/app',
        buildTag: '1.2',
        freeze: true,
        buildArgs: { A: '1', B: 'x=y' },
        buildTarget: 'final',
        buildLabels: { team: 'blue' },
        buildSecrets: ['npm', 'pip'],
        buildNetwork: 'none',
        buildAttestations: { sbom: true, provenance: 'max' },
        cacheRepository: 'local/cache',
        buildCompression: { mode: 'zstd', level: 9 },
        buildTimeout: '10m',
      },
    ]);
  });

  test('without options there is only the file', async () => {
    await run(['-f', join(folder, 'Containerfile')]);
    expect(service.submitted).toEqual([{ containerFile: ENCODED }]);
  });

  test('a repository without a tag leaves the tag to the service', async () => {
    await run(['-f', join(folder, 'Containerfile'), '-t', 'local/app']);
    expect(service.submitted).toEqual([{ containerFile: ENCODED, buildRepository: 'local/app', freeze: true }]);
  });

  test('-f - is standard input', async () => {
    await run(['-f', '-'], { stdin: Readable.from(['FROM scratch\n', 'COPY . /\n']) });
    expect(service.submitted).toEqual([{ containerFile: ENCODED }]);
  });

  test('a Containerfile goes before a Dockerfile, and that is taken where it is alone', async () => {
    await writeFile(join(folder, 'Dockerfile'), 'FROM other\n');
    await run([folder]);
    await rm(join(folder, 'Containerfile'));
    await run([folder]);
    const files = service.submitted.map(body => atob(sentContextSchema.parse(body).containerFile));
    expect(files).toEqual([FILE, 'FROM other\n']);
  });
});

describe('the context', () => {
  beforeEach(async () => {
    await mkdir(join(folder, 'src/deep'), { recursive: true });
    await writeFile(join(folder, 'src/deep/a.txt'), 'a');
    await writeFile(join(folder, 'secret.key'), 'not for you');
    await symlink('src/deep/a.txt', join(folder, 'link'));
    await writeFile(join(folder, '.dockerignore'), '*.key\n');
  });

  test('has what .dockerignore leaves, links as links', async () => {
    await run([folder]);
    expect(await sentEntries()).toEqual({
      '.dockerignore': '*.key\n',
      Containerfile: FILE,
      link: 'symlink src/deep/a.txt',
      src: 'directory',
      'src/deep': 'directory',
      'src/deep/a.txt': 'a',
    });
  });

  test('an ignore file of the Containerfile goes before it', async () => {
    await writeFile(join(folder, 'Containerfile.dockerignore'), 'src\nlink\n');
    await run([folder]);
    expect(Object.keys(await sentEntries()).sort()).toEqual([
      'Containerfile',
      'Containerfile.dockerignore',
      'secret.key',
    ]);
  });

  test('of the same files is the same bytes, whenever they were written', async () => {
    await run([folder]);
    await utimes(join(folder, 'src/deep/a.txt'), 1, 1);
    await run([folder]);
    const [first, second] = service.submitted.map(body => sentContextSchema.parse(body).buildContext);
    expect(second).toEqual(first);
    const packed = Buffer.from(first?.location.replace(/^data:/, '') ?? '', 'base64');
    expect(first).toMatchObject({ gzipDigest: digestOf(packed), gzipSize: packed.byteLength });
  });

  test('may be a tar, which is sent as it is', async () => {
    await writeFile(join(folder, 'context.tar'), 'as it is');
    await run([join(folder, 'context.tar'), '-f', join(folder, 'Containerfile')]);
    expect(service.submitted).toMatchObject([{ buildContext: { location: `data:${btoa('as it is')}` } }]);
  });

  test('may be at a URL, which the service fetches', async () => {
    await run(['https://files.example/context.tar.gz', '-f', join(folder, 'Containerfile')]);
    expect(service.submitted).toMatchObject([{ buildContext: { location: 'https://files.example/context.tar.gz' } }]);
  });

  test('that is large is pushed to the service once, and named there', async () => {
    await writeFile(join(folder, 'large.bin'), randomBytes(9 * 1024 * 1024));
    expect((await run([folder])).err).toMatch(/^sending the context, 9 MiB\n/);
    expect((await run([folder])).err).toBe(`digest ${DIGEST}\n`);
    const [first, second] = service.submitted.map(body => sentContextSchema.parse(body).buildContext);
    expect(first?.location).toBe(`oci://${service.url.host}/local/builds@${first?.gzipDigest}`);
    expect(second).toEqual(first);
    const uploads = service.requests.filter(({ method }) => ['POST', 'PATCH', 'PUT'].includes(method));
    expect(uploads.map(({ method }) => method)).toEqual(['POST', 'PATCH', 'PATCH', 'PUT', 'POST', 'POST']);
    const { status, body } = await service.registry.send('GET', `/v2/local/builds/blobs/${first?.gzipDigest}`);
    expect(status).toBe(200);
    expect(Object.keys(await readTar(gunzipSync(body)))).toContain('large.bin');
  });

  test('that is large shows on a terminal how much of it has arrived', async () => {
    await writeFile(join(folder, 'large.bin'), randomBytes(9 * 1024 * 1024));
    const terminal = createTerminal();
    await run([folder], { terminal });
    expect(terminal.text()).toMatch(/the context .* 100%/);
  });
});

describe('a build that is under way', () => {
  const at = '2030-01-01T00:00:00Z';

  beforeEach(() => {
    service.answer = { buildId: BUILD_ID };
  });

  test('is followed to its end, and what its steps say goes to standard error', async () => {
    const step = '[linux/arm64 2/2] RUN make';
    service.log = [
      {
        entries: [
          { at, kind: 'note', text: 'built by buildkit' },
          { at, kind: 'step', platform: 'linux/arm64', step, state: 'started' },
          { at, kind: 'output', platform: 'linux/arm64', step, text: 'making \u001b[31mred\u001b[0m' },
          { at, kind: 'step', platform: 'linux/arm64', step, state: 'done' },
        ],
        ends: 'end',
      },
    ];
    expect(await run([folder])).toEqual({
      out: `${service.url.host}/wt/0123456789ab/local/builds:1\n`,
      err: [
        'built by buildkit',
        '[linux/arm64 2/2] RUN make',
        'linux/arm64 | making red',
        '[linux/arm64 2/2] RUN make: done',
        `digest ${DIGEST}`,
        '',
      ].join('\n'),
      exitCode: 0,
    });
  });

  const failed = { status: 'failed', reason: 'make: exit code 2 (linux/arm64, RUN make)', digest: undefined };

  test.each([
    ['that fails while it is waited for', {}, []],
    ['that has failed before', { succeeded: false }, []],
    ['that has failed before, and nobody waits,', { succeeded: false }, ['--no-await']],
  ])('%s is exit code 1, its reason and where its log is', async (_, answer, args) => {
    service.answer = { buildId: BUILD_ID, ...answer };
    service.build = failed;
    const log = `${service.url.origin}/v1alpha1/builds/${BUILD_ID}/logs`;
    expect(await run([folder, ...args])).toEqual({
      out: '',
      err: `error: ${BUILD_ID} failed: make: exit code 2 (linux/arm64, RUN make); its log: ${log}\n`,
      exitCode: 1,
    });
  });

  test('that fails is JSON too, where that is asked for', async () => {
    service.build = failed;
    const { out, exitCode } = await run([folder, '--json']);
    expect(JSON.parse(out)).toMatchObject({ succeeded: false, build: { status: 'failed', reason: failed.reason } });
    expect(exitCode).toBe(1);
  });

  test('continues when the command is interrupted, which says how to end it', async () => {
    service.log = [{ entries: [{ at, kind: 'note', text: 'it begins' }], ends: 'hang' }];
    const interrupted = new AbortController();
    const running = run([folder], { listenForInterrupt: () => interrupted.signal });
    await expect.poll(() => service.requests.at(-1)?.path).toMatch(/\/logs$/);
    interrupted.abort();
    expect(await running).toEqual({
      out: '',
      err: expect.stringMatching(
        new RegExp(
          `${BUILD_ID} is still running: follow it with .veneer builds log .*, cancel it with .veneer builds cancel ${BUILD_ID}`,
        ),
      ),
      exitCode: 130,
    });
    expect(service.requests.filter(({ path }) => path.endsWith('/cancel'))).toEqual([]);
  });

  test('whose connection is lost for good may go on, and the command says so', async () => {
    service.log = [{ entries: [{ at, kind: 'note', text: 'it begins' }], ends: 'cut' }];
    const { out, err, exitCode } = await run([folder]);
    expect({ out, exitCode }).toEqual({ out: '', exitCode: 1 });
    expect(err.split('\n')).toEqual([
      'it begins',
      `error: ${service.url.host} closed the connection; ${BUILD_ID} may still be running: follow it with \`veneer builds log ${BUILD_ID}\``,
      '',
    ]);
  });
});

describe('what is refused', () => {
  test.each([
    ['nothing to build', [], 'nothing to build: give a directory, such as ".", or a Containerfile with -f'],
    ['a file that is not there', ['-f', 'missing/Containerfile'], 'there is no missing/Containerfile'],
    ['a context that is not there', ['missing', '-f', '-'], 'there is no missing'],
    ['a device as context', ['/dev/null', '-f', '-'], '/dev/null is neither a file nor a directory'],
    ['a context without a file', ['/dev'], 'there is no Containerfile and no Dockerfile in /dev: name it with -f'],
    ['a platform that is none', ['--platform', 'linux/amd64,a/b/c/d'], '"a/b/c/d" is not a platform; expected os/arch'],
    ['an argument without a value', ['--build-arg', 'KEY'], 'expected KEY=value'],
    ['a label without a key', ['--label', '=x'], 'expected KEY=value'],
    ['a tag that is none', ['-t', 'local/app:'], 'invalid tag ""; expected REPOSITORY[:TAG]'],
    [
      'a repository that is none',
      ['-t', 'Local/App'],
      'invalid repository name "Local/App"; expected REPOSITORY[:TAG]',
    ],
    ['a digest as tag', ['-t', `local/app@${DIGEST}`], 'the digest is not known in advance'],
    [
      'an unknown compression',
      ['--compression', 'brotli'],
      'expected gzip, zstd, estargz, uncompressed, optionally with a level',
    ],
    [
      'a level that is none',
      ['--compression', 'zstd:23'],
      'expected gzip, zstd, estargz, uncompressed, optionally with a level',
    ],
    ['a network that requests do not have', ['--network', 'host'], 'Allowed choices are default, none'],
    ['a provenance that is none', ['--provenance', 'full'], 'Allowed choices are none, min, max'],
    ['a time without a unit', ['--timeout', '10'], 'expected a duration such as 30s'],
    ['an unknown option', ['--push'], "unknown option '--push'"],
    ['a second context', ['a', 'b'], 'too many arguments'],
  ])('%s', async (_, args, message) => {
    const { out, err, exitCode } = await run(args);
    expect({ out, exitCode }).toEqual({ out: '', exitCode: 1 });
    expect(err).toContain(message);
    expect(service.submitted).toEqual([]);
  });

  test('what the context may not have is named', async () => {
    await symlink('/etc/passwd', join(folder, 'absolute'));
    const { err, exitCode } = await run([folder]);
    expect([err, exitCode]).toEqual([expect.stringMatching(/^error: .*"absolute".*the symlink is absolute/), 1]);
  });
});

describe('a service that does not do it', () => {
  const TOKEN = `vnr_${'0123456789'.repeat(4)}`;
  const saying =
    (status: number, body: object, headers: Record<string, string> = {}) =>
    () =>
      Response.json(body, { status, headers });

  test.each<[string, () => Response, string]>([
    [
      '400',
      saying(400, { message: 'containerPlatform: no linux/amd46' }),
      'answered 400, containerPlatform: no linux/amd46\n',
    ],
    [
      '401',
      saying(401, { message: 'who is it?' }),
      'answered 401, who is it?: set VENEER_TOKEN to an access token, or to <user>:<password>\n',
    ],
    [
      '403',
      saying(403, { errors: [{ code: 'DENIED', message: 'not you' }] }),
      'answered 403, not you: set VENEER_TOKEN to a token that may do this\n',
    ],
    ['413', saying(413, { message: 'too large' }), 'answered 413, too large: see limits.requestBody of the service\n'],
    ['429', saying(429, { message: 'slowly' }, { 'Retry-After': '30' }), 'answered 429, slowly: try again in 30 s\n'],
    ['a message that would move the cursor', saying(400, { message: 'a\u001b[2J\nb' }), 'answered 400, a b\n'],
    [
      'no JSON',
      () => new Response('<html>', { status: 502, statusText: 'Bad Gateway' }),
      'answered 502, Bad Gateway\n',
    ],
    ['a success of another', () => new Response('<html>'), 'is not a Veneer service of this version'],
    [
      'an endless error',
      () => new Response('x'.repeat(1_000_000), { status: 500 }),
      'answered 500, Internal Server Error\n',
    ],
    ['elsewhere', () => Response.redirect('http://x.example/'), 'no service answers at 127.0.0.1:'],
  ])('%s is reported in one line, without the token', async (_, refusal, message) => {
    service.refusal = refusal;
    const { out, err, exitCode } = await run([folder], { findService: () => ({ url: service.url, token: TOKEN }) });
    expect({ out, exitCode }).toEqual({ out: '', exitCode: 1 });
    expect(err).toContain(message);
    expect(err).not.toContain(TOKEN.slice(4));
    expect(err).not.toContain('\u001b');
    expect(err.trimEnd()).not.toContain('\n');
  });

  test('one that is not there is reported with what to do', async () => {
    const { port } = service.url;
    await service.close();
    const { err, exitCode } = await run([folder]);
    const what = `no service answers at 127.0.0.1:${port} (ECONNREFUSED)`;
    const advice = 'start it with `veneer`, or name another with --server or VENEER_URL';
    expect([err, exitCode]).toEqual([`error: ${what}: ${advice}\n`, 1]);
    service = await startBuildService();
  });

  test.each([
    ['an access token', TOKEN, `Basic ${btoa(`token:${TOKEN}`)}`],
    ['user and password', 'ada:secret', `Basic ${btoa('ada:secret')}`],
    ['a bearer token', 'ey.x.y\n', 'Bearer ey.x.y'],
  ])('%s is shown with every request, and printed nowhere', async (_, token, authorization) => {
    service.answer = { buildId: BUILD_ID };
    await writeFile(join(folder, 'large.bin'), randomBytes(9 * 1024 * 1024));
    const { out, err } = await run([folder, '--json'], { findService: () => ({ url: service.url, token }) });
    expect(service.requests.length).toBeGreaterThan(5);
    expect(new Set(service.requests.map(each => each.authorization))).toEqual(new Set([authorization]));
    expect(out + err).not.toMatch(/secret|0123456789012345|ey\.x/);
  });

  test('a token that no header can hold is refused, and not quoted', async () => {
    const { err, exitCode } = await run([folder], {
      findService: () => ({ url: service.url, token: 'geheim\u0001nis' }),
    });
    expect([err, exitCode]).toEqual(['error: VENEER_TOKEN contains invalid characters\n', 1]);
  });
});
