// The commands of the documents, typed by a reader who goes from the top of a page to its end: in a folder of its own, with a Veneer that
// listens at another port, and a registry of the environment in the place of Docker Hub and Quay.
import { cp, mkdir, mkdtemp, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { type Block, isRun, listBlocks, type Ran, TRIALS } from '../support/document-commands.ts';
import { busyboxPath, clientPath, findMissing, searchPath } from './support/clients.ts';
import { startContainerd, startDocker } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { buildImage, PLATFORMS } from './support/image.ts';
import { checkUrl, findFreePort, type Killable, run, startProcess } from './support/process.ts';

const TOOLS = ['dockerd', 'docker', 'containerd', 'ctr', 'oras', 'curl', 'jq', 'bash'] as const;
const missing = findMissing([...ENVIRONMENT_COMMANDS, ...TOOLS]);

const blocks = listBlocks().filter(({ name }) => isRun(TRIALS[name]));
const pages = [...new Set(blocks.map(({ page }) => page))];

const MAIN = resolve('src/main.ts');
/** What pages for beginners need of a clone. */
const CLONE = ['package.json', 'src', 'node_modules'];

/** Whatever does not come through Veneer does not come. */
const NO_HUB = { HTTPS_PROXY: 'http://127.0.0.1:1' };

/** The example that documents explain rules by. */
const EXPLAINED = [
  {
    name: 'corporate-ca',
    match: { image: 'docker.io/**', platform: 'linux/*' },
    layers: [{ directory: './layers/ca' }],
    env: { SSL_CERT_FILE: '/etc/ssl/certs/corp.pem' },
  },
  { name: 'debug', match: { image: '**', caller: 'debugger' }, env: { DEBUG: '1' } },
];

/** What the configuration of a page says beside where it is tried. */
const SETTINGS: Readonly<Record<string, object>> = {
  'docs/access.md': { access: { grants: [{ anyone: true, repositories: ['**'], allow: ['pull'] }] } },
  'docs/api.md': { rules: EXPLAINED },
  'docs/cli.md': { rules: EXPLAINED },
  'docs/rules.md': { rules: EXPLAINED },
};

/** Programs of other platforms are emulated only where it is registered, but none of these is run. */
const ALPINE = `FROM scratch
ARG TARGETARCH
COPY root-\${TARGETARCH} /
ENV PATH=/usr/bin
CMD ["/bin/sh"]
`;

describe.skipIf(missing)(`documents${missing ? ` (${missing})` : ''}`, () => {
  let environment: Environment;
  let docker = '';
  let containerd = '';

  beforeAll(async () => {
    environment = await createEnvironment();
    await makeAlpine(environment);
    await writeFile(join(environment.folder, 'daemon.json'), '{}');
    const configFile = join(environment.folder, 'daemon.json');
    docker = (await environment.keep(startDocker(environment.folder, { configFile, env: NO_HUB }))).host;
    containerd = (await environment.keep(startContainerd(environment.folder))).socket;
  });

  afterAll(() => environment?.close());

  describe.each(pages)('%s', page => {
    let reader: Reader;

    beforeAll(async () => {
      reader = await startReader(environment, { docker, containerd, page });
    });

    afterAll(() => reader?.veneer.stop());

    test.each(blocks.filter(block => block.page === page))('$name', async block => {
      const trial = TRIALS[block.name];
      if (!isRun(trial)) throw new Error(`${block.name} is not run`);
      const left = Object.keys(trial.without ?? {});
      const typed = block.code
        .split('\n')
        .filter(line => !left.some(start => line.startsWith(start)))
        .join('\n');
      if (trial.before) await reader.type(trial.before);
      const printed = await reader.type(typed, trial.fails);
      for (const expected of trial.prints ?? []) expect(printed).toContain(expected);
      compare(block, trial, printed);
    });
  });
});

/** What is shown is what is printed, but for what differs from machine to machine. */
function compare({ output }: Block, { compare: how, differs = {} }: Ran, printed: string): void {
  if (how === 'lines') expect(neutral(printed)).toEqual(neutral(output));
  if (how === 'keys') {
    const shown = pathsOf(JSON.parse(output)).filter(path => !(path in differs));
    expect(pathsOf(JSON.parse(printed))).toEqual(expect.arrayContaining(shown));
  }
  if (how === 'words') {
    // A busy machine has notes of its own.
    const firstWords = (text: string) => neutral(text).map(line => /^note|^ →|^[^:]+:|^\S+/.exec(line)?.[0]);
    expect(firstWords(output)).toEqual(expect.arrayContaining(firstWords(printed)));
  }
}

/** Digests, times, sizes and numbers are placeholders, and columns have one space between them. */
function neutral(text: string): readonly string[] {
  const lines = text
    .replaceAll(/sha256:[0-9a-f]+…?/g, 'sha256:…')
    .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '<time>')
    .replaceAll(/127\.0\.0\.1:\d+/g, '<address>')
    .replaceAll(/[\d.]+ (?:B|KiB|MiB|GiB)\b/g, '<size>')
    .split('\n');
  return lines.map(line => line.replaceAll(/ +/g, ' ').trimEnd()).filter(line => line !== '');
}

/** Of each value in a document; of a list, that of its first item. */
function pathsOf(value: unknown, path = ''): readonly string[] {
  if (typeof value !== 'object' || value === null) return [path];
  if (Array.isArray(value)) return value.length === 0 ? [path] : pathsOf(value[0], `${path}[]`);
  return Object.entries(value).flatMap(([key, inner]) => pathsOf(inner, `${path}.${key}`));
}

interface Reader {
  readonly veneer: Killable;
  /** Runs what was typed, with the variables of what was typed before, and gives all that was printed. Throws unless it ends as it should. */
  type(code: string, fails?: boolean): Promise<string>;
}

interface ReaderOptions {
  /** The addresses of the engines. */
  readonly docker: string;
  readonly containerd: string;
  readonly page: string;
}

/** In a folder of its own, for beginners with what a clone has in it, and with the `veneer` of the documents. */
async function startReader(
  { folder, registry, buildkit, keep }: Environment,
  { docker, containerd, page }: ReaderOptions,
): Promise<Reader> {
  const own = await mkdtemp(join(folder, 'reader-'));
  const [cwd, bin, data] = [join(own, 'work'), join(own, 'bin'), join(own, 'data')];
  for (const path of [cwd, bin]) await mkdir(path);
  await writeFile(join(bin, 'veneer'), `#!/bin/sh\nexec ${process.execPath} ${MAIN} "$@"\n`, { mode: 0o755 });
  if (/README|quick-start/.test(page)) for (const name of CLONE) await symlink(resolve(name), join(cwd, name));
  await mkdir(join(cwd, 'layers/ca/bin'), { recursive: true });
  await writeFile(join(cwd, 'layers/ca/bin/tool'), 'a tool');

  const typedThere = blocks.flatMap(block => (block.page === page ? [block.code] : [])).join('\n');
  const named = ['docker.io', 'quay.io', 'registry.example'].filter(name => typedThere.includes(name));
  const upstreams = Object.fromEntries(['docker.io', ...named].map(name => [name, { url: `http://${registry}` }]));
  const builds = { backends: [{ kind: 'buildkit', address: buildkit }] };
  await writeFile(join(cwd, 'veneer.yaml'), stringify({ upstreams, builds, ...SETTINGS[page] }));
  const port = await findFreePort();
  const env = {
    ...{
      PATH: [bin, searchPath()].join(':'),
      HOME: own,
      DOCKER_HOST: docker,
      CONTAINERD_ADDRESS: containerd,
      STATE: join(own, 'state'),
    },
    ...{ VENEER_LISTEN: `127.0.0.1:${port}`, VENEER_DATA_DIR: data, NODE_COMPILE_CACHE: join(folder, 'compiled') },
  };
  const checkReady = () => checkUrl(`http://127.0.0.1:${port}/health/ready`);
  const veneer = await keep(startProcess(process.execPath, [MAIN], { cwd, env, checkReady }));

  const place = (code: string) =>
    code
      .replaceAll(/\b(localhost|127\.0\.0\.1):8080\b/g, `$1:${port}`)
      .replaceAll('https://veneer.example', `http://localhost:${port}`)
      .replaceAll(/\b(?:veneer\.example|(?<=docker login .*)registry\.example)\b/g, `localhost:${port}`)
      .replaceAll(/--data-dir \/var\/lib\/veneer(?= )/g, `--data-dir ${data}`)
      .replaceAll(/(?<= )\/(?:backup|var\/lib)\//g, `${own}/`)
      .replaceAll('sudo ', '')
      .replaceAll('/etc/docker/', `${folder}/`)
      .replaceAll('/etc/containerd/', `${own}/`)
      .replaceAll('systemctl reload docker', `kill -HUP "$(cat ${folder}/docker.pid)"`)
      // A configuration of the reader's has no Docker Hub either.
      .replaceAll("<<'YAML'\n", `<<'YAML'\n${stringify({ upstreams })}`)
      // The engine has no network for containers.
      .replaceAll('docker run --rm', 'docker run --rm --network none');

  return {
    veneer,
    async type(code, fails = false) {
      const script = `[ ! -e "$STATE" ] || . "$STATE"\nset -a\n${place(code)}\nexport -p > "$STATE"`;
      const typing = run('bash', ['-euo', 'pipefail', '-c', `{ ${script}\n} 2>&1`], { cwd, env, timeoutMs: 200_000 });
      const { printed, ended } = await typing.then(
        printed => ({ printed, ended: !fails }),
        error => ({ printed: String(error.stdout), ended: fails }),
      );
      if (!ended) throw new Error(`it ${fails ? 'works' : 'fails'}: ${place(code)}\n${printed}`);
      return printed;
    },
  };
}

/** `library/alpine:3` and `prometheus/busybox:latest`, with the links that a Linux of today has. */
async function makeAlpine({ folder, registry, buildkit }: Environment): Promise<void> {
  const context = join(folder, 'alpine');
  for (const architecture of ['amd64', 'arm64', 'arm'] as const) {
    const bin = join(context, `root-${architecture}/usr/bin`);
    await mkdir(bin, { recursive: true });
    await cp(busyboxPath(architecture), join(bin, 'busybox'));
    for (const name of ['sh', 'cat', 'echo', 'env', 'uname', 'ls']) await symlink('busybox', join(bin, name));
    await symlink('usr/bin', join(context, `root-${architecture}/bin`));
  }
  await writeFile(join(context, 'Dockerfile'), ALPINE);
  const options = ['--opt', `platform=${PLATFORMS.join(',')}`];
  const image = `${registry}/library/alpine:3`;
  await buildImage({ buildkit, context, image, options });
  await run(clientPath('crane'), ['copy', '--insecure', image, `${registry}/prometheus/busybox:latest`]);
}
