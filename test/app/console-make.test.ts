// The form for a new image, through the whole app: what it asks for is a request of the API, and nothing in it runs anywhere.
import { execFileSync } from 'node:child_process';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { temporaryDirectory } from '../access/fixture.ts';
import { HOST, makeTar } from '../support/app.ts';
import { type BuildApp, base64, startBuildApp } from './build-app.ts';

const HTML = { Accept: 'text/html' };
const HOSTILE = `'; touch /tmp/x; "$(id)" </script><script>alert(1)</script>`;

let app: BuildApp;

beforeEach(async () => {
  app = await startBuildApp();
});

afterEach(() => app.close());

/** With files it is sent as browsers send those. */
async function send(fields: Readonly<Record<string, string>>, files: Readonly<Record<string, File>> = {}) {
  const given = await app.request('/console/new', { headers: HTML });
  const [cookie = ''] = given.headers.getSetCookie().map(each => each.split(';', 1)[0] ?? '');
  const form = cookie.slice(cookie.indexOf('=') + 1);
  const all = new FormData();
  for (const [name, value] of Object.entries({ form, ...fields, ...files })) all.append(name, value);
  const hasFiles = Object.keys(files).length > 0;
  const encoded = new Response(hasFiles ? all : new URLSearchParams({ form, ...fields }));
  const type = { 'Content-Type': encoded.headers.get('content-type') ?? '', 'Sec-Fetch-Site': 'same-origin' };
  // Of ASCII alone. A stream would be cancelled by the answer.
  const body = await encoded.text();
  const response = await app.request('/console/new', {
    method: 'POST',
    headers: { ...HTML, ...type, Cookie: cookie },
    body,
  });
  return [response.status, await response.text()] as const;
}

const textOf = (html: string) =>
  html
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&amp;', '&');

const copied = (page: string, what: string) =>
  textOf(new RegExp(`aria-label="${what}">([^<]*)</pre>`).exec(page)?.[1] ?? '');

test('augments an image, and says how to pull it', async () => {
  const [status, page] = await send({
    kind: 'augment',
    image: app.base,
    env: 'A=b\r\nC=d',
    labels: `made=${HOSTILE}`,
    workingDir: '/opt',
  });
  expect(status).toBe(200);
  const [, name = '', token = ''] = new RegExp(`docker run --rm ${HOST}/(wt/([0-9a-f]{24})/[^:]+):1`).exec(page) ?? [];
  expect((await app.request(`/v2/${name}/manifests/1`)).status).toBe(200);
  expect(page).not.toContain('<script>alert');
  const record = Object(await (await app.request(`/v1alpha2/container/${token}`)).json());
  expect(record.containerConfig).toEqual({ env: ['A=b', 'C=d'], labels: { made: HOSTILE }, workingDir: '/opt' });
  expect(copied(page, 'the lines for nextflow.config')).toContain(`process.container = '${HOST}/wt/${token}/`);
});

test('the command it shows sends the same, whatever a shell makes of its characters', async () => {
  const [, page] = await send({ kind: 'augment', image: app.base, labels: `made=${HOSTILE}` });
  // A curl that prints the body that it is to send.
  const script = `curl() { while [ $# -gt 1 ]; do [ "$1" = -d ] && printf %s "$2"; shift; done; }\n${copied(page, 'the curl command')}`;
  expect(JSON.parse(execFileSync('sh', ['-c', script], { encoding: 'utf8' }))).toEqual({
    containerImage: app.base,
    containerConfig: { labels: { made: HOSTILE } },
  });
});

test('builds an image, and leads to its build', async () => {
  const [status, page] = await send({
    kind: 'build',
    file: `FROM ${app.base}\r\nENV A=b\r\n`,
    platforms: 'linux/amd64',
  });
  const [, id = ''] = /href="\/view\/builds\/([^"]+)"/.exec(page) ?? [];
  expect(status).toBe(200);
  expect(await app.ended(id)).toMatchObject({ status: 'succeeded', dockerFile: `FROM ${app.base}\nENV A=b\n` });
});

test.each([
  ['no image', { kind: 'augment', image: '' }, 'exactly one of containerImage'],
  [
    'a variable without a value',
    { kind: 'augment', image: 'a', env: `${HOSTILE}` },
    'containerConfig.env[0]: must be KEY=VALUE',
  ],
  ['a label without a name', { kind: 'augment', image: 'a', labels: '=x' }, 'labels: '],
  ['an image that is none', { kind: 'augment', image: HOSTILE }, 'containerImage'],
  ['a Containerfile that is none', { kind: 'build', file: `NONSENSE ${HOSTILE}` }, 'NONSENSE'],
])('%s is reported in the form, which keeps what was written', async (_, fields, message) => {
  const [status, page] = await send(fields);
  expect([status, textOf(page)]).toEqual([400, expect.stringContaining(message)]);
  expect(page).toContain('role="alert"');
  expect(page).not.toContain('<script>alert');
  const written = Object.values(fields).find(value => value.includes('alert(1)'));
  if (written) expect(page).toContain('&lt;script&gt;alert(1)');
});

/** What the shown command would send: a curl in its place prints it. Files are in the folder that it runs in. */
function sentBy(command: string, cwd: string): unknown {
  const script = `curl() { while [ $# -gt 1 ]; do [ "$1$2" = -d@- ] && cat; shift; done; }\n${command}`;
  return JSON.parse(execFileSync('sh', ['-c', script], { encoding: 'utf8', cwd }));
}

/** The tags of a page, and the names of their attributes. */
function skeletonOf(page: string): readonly string[] {
  return (page.match(/<[^>]*>/g) ?? []).map(tag => tag.replaceAll(/="[^"]*"/g, ''));
}

test('whatever a request and a Containerfile have in them, the tags of their pages stay the same', async () => {
  const pages = async (text: string) => {
    const containerConfig = { env: [`A=${text}`], labels: { [`l${text}`]: text }, cmd: [text] };
    const post = { method: 'POST', body: { containerImage: app.base, containerConfig, fingerprint: text } };
    const { requestId } = Object(await (await app.request('/v1alpha2/container', post)).json());
    const { buildId } = await app.build({ containerFile: base64(`# ${text}\nFROM scratch\nLABEL a="b"\n`) });
    await app.ended(buildId);
    const read = async (path: string) => (await app.request(path, { headers: HTML })).text();
    return [skeletonOf(await read(`/view/containers/${requestId}`)), skeletonOf(await read(`/view/builds/${buildId}`))];
  };
  const plain = await pages('plain');
  expect(plain.every(({ length }) => length > 40)).toBe(true);
  const parts = [
    '<',
    '>',
    '"',
    "'",
    '&',
    '`',
    '</pre>',
    '<script>',
    ' onload=',
    '<!--',
    '&lt;',
    '\u2028',
    'é',
    '\u202e',
  ];
  const text = fc.array(fc.constantFrom(...parts), { minLength: 1, maxLength: 12 }).map(all => all.join(''));
  await fc.assert(
    fc.asyncProperty(text, async given => {
      expect(await pages(given)).toEqual(plain);
    }),
    { numRuns: 6 },
  );
});

test('a context and a layer are taken from files, which the shown command sends as well', async () => {
  const folder = await temporaryDirectory();
  const name = "it's; $(touch here).tar";
  const tar = await makeTar('hello', 'from a file');
  await writeFile(join(folder, name), tar);
  const file = new File([new Uint8Array(tar)], name);
  const [status, page] = await send({ kind: 'build', file: 'FROM scratch\nCOPY hello /\n' }, { context: file });
  expect(status, page).toBe(200);
  const [, id = ''] = /href="\/view\/builds\/([^"]+)"/.exec(page) ?? [];
  expect(await app.ended(id)).toMatchObject({ status: 'succeeded' });
  const location = `data:${tar.toString('base64')}`;
  const built = sentBy(copied(page, 'the curl command'), folder);
  expect(built).toEqual({ containerFile: expect.any(String), buildContext: { location } });

  const [, augmented] = await send({ kind: 'augment', image: app.base, layers: '' }, { layer: file });
  expect(augmented).toContain('docker run --rm');
  const request = sentBy(copied(augmented, 'the curl command'), folder);
  expect(request).toEqual({ containerImage: app.base, containerConfig: { layers: [{ location }] } });
  expect(await readdir(folder)).toEqual([name]);
});

test('a form with files is bounded, and no other may stand in for it', async () => {
  const parts = Object.fromEntries(Array.from({ length: 101 }, (_, at) => [`f${at}`, new File(['x'], 'x')]));
  expect((await send({ kind: 'build' }, parts))[0]).toBe(400);
  const large = new File([new Uint8Array(21 * 1024 * 1024)], 'large');
  expect((await send({ kind: 'build' }, { context: large }))[0]).toBe(413);
  const headers = { ...HTML, 'Sec-Fetch-Site': 'same-origin' };
  const post = (type: string, body: string) =>
    app.request('/console/new', { method: 'POST', headers: { ...headers, 'Content-Type': type }, body });
  for (const [type, status] of [
    ['multipart/form-data', 400],
    ['multipart/form-data; boundary=a', 400],
    ['multipart/form-data; boundary=""', 400],
    ['multipart/mixed; boundary=a', 415],
  ] as const)
    expect([type, (await post(type, '--a\r\nnonsense')).status]).toEqual([type, status]);
  const forged = '--a\r\nContent-Disposition: form-data; name="form"\r\n\r\nforged\r\n--a--\r\n';
  expect((await post('multipart/form-data; boundary=a', forged)).status).toBe(403);
});

test('asks who it is where callers have to show it', async () => {
  await app.configure({ access: {} });
  const { status, headers } = await app.request('/console/new', { headers: HTML });
  expect([status, headers.get('location')]).toEqual([303, '/console/login?next=%2Fconsole%2Fnew']);
  expect((await app.request('/console/mirrors', { headers: HTML })).status).toBe(303);
});

test('the mirror set-up of each runtime is what the command prints', async () => {
  const page = textOf(await (await app.request('/console/mirrors', { headers: HTML })).text());
  expect(page).toContain('"registry-mirrors": [\n    "http://127.0.0.1:8080"\n  ]');
  for (const part of [
    'io.containerd.cri.v1.images',
    'io.containerd.grpc.v1.cri',
    '[[registry.mirror]]',
    'systemctl reload crio',
  ])
    expect(page).toContain(part);
});

test('containerd has a file for registries that are strict, and one for the rest', async () => {
  await app.configure({ upstreams: { 'quay.io': { strict: true }, 'ghcr.io': {} } });
  const page = textOf(await (await app.request('/console/mirrors', { headers: HTML })).text());
  const files = [...page.matchAll(/save as (\/etc\/containerd\/certs\.d[^\n]*)/g)].map(([, places]) => places);
  expect(files).toEqual([
    '/etc/containerd/certs.d/docker.io/hosts.toml and /etc/containerd/certs.d/ghcr.io/hosts.toml',
    '/etc/containerd/certs.d/quay.io/hosts.toml',
  ]);
  expect(page.split('server = "http://127.0.0.1:8080"').length - 1).toBe(1);
});
