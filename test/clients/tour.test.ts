// A stranger's first hour: a clone, the two commands of the README by the npm of the machine and as nobody, and the mistakes of a newcomer, each
// of which ends in a message that says what is wrong, where, and what helps.
import { existsSync } from 'node:fs';
import { chown, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { NOBODY } from '../support/as-nobody.ts';
import { generateImage } from '../support/images.ts';
import { startRegistry, type TestRegistry } from '../support/registry.ts';
import { findMissingTools } from './support/clients.ts';
import { checkUrl, findFreePort, type Killable, run, startProcess } from './support/process.ts';

const missing = findMissingTools(['git', 'npm', 'setpriv', 'bash']);
const isRoot = process.getuid?.() === 0;
/** That of the machine, whatever runs the tests: its Node may be older than ours. */
const PATH = (process.env.PATH ?? '')
  .split(delimiter)
  .filter(folder => !folder.includes('node_modules'))
  .join(delimiter);

describe.skipIf(missing)(`a stranger${missing ? ` (${missing})` : ''}`, () => {
  let folder: string;
  let clone: string;
  let registry: TestRegistry;
  let veneer: Killable;
  let address: string;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'veneer-tour-'));
    clone = join(folder, 'clone');
    // Whoever owns the working copy.
    const gitConfig = join(folder, 'gitconfig');
    await writeFile(gitConfig, '[safe]\n\tdirectory = *\n');
    await run('git', ['clone', '--quiet', resolve('.'), clone], { env: { GIT_CONFIG_GLOBAL: gitConfig } });
    await symlink(resolve('node_modules'), join(clone, 'node_modules'));
    registry = await startRegistry();
    const { content, root } = generateImage({ seed: 1, platforms: ['linux/amd64'], layers: 1, family: 'oci' });
    const tagged = [...content].map(([digest, bytes]) => ({
      ...bytes,
      ...(digest === root.digest && { tags: ['1'] }),
    }));
    registry.put('team/app', tagged);
    const upstreams = { lab: { url: registry.url }, tls: { url: registry.url.replace('http:', 'https:') } };
    await write('veneer.yaml', { upstreams, tokens: { ttl: '1s' }, builds: { backends: ['embedded'] } });
    if (isRoot) for (const path of [folder, clone]) await chown(path, NOBODY, NOBODY);
    address = `127.0.0.1:${await findFreePort()}`;
    const [command = '', ...args] = asNobody('npm', 'start');
    veneer = await startProcess(command, args, {
      cwd: clone,
      env: environment(),
      checkReady: () => checkUrl(`http://${address}/health/ready`),
    });
  });

  afterAll(async () => {
    await veneer?.stop();
    await registry?.close();
    await rm(folder, { recursive: true, force: true });
  });

  test('has a service with two commands, which says where it listens and what to try', async () => {
    expect(veneer.readOutput()).toContain(
      `listening on http://${address}, data in ${join(clone, '.veneer')}; try: docker pull`,
    );
    const image = await pull('lab/team/app/manifests/1');
    expect(image.status).toBe(200);
    const page = await fetch(`http://${address}/console`);
    expect([page.status, await page.text()]).toEqual([200, expect.stringContaining('<h1>Overview</h1>')]);
  });

  test('and an image of their own by one more', async () => {
    const printed = await type('augment', 'lab/team/app:1', '--env', 'GREETING=hello');
    expect(printed).toMatch(/\/wt\/[0-9a-f]+\/team\/app:1$/m);
  });

  test('and stops it by a signal to npm alone, which has a shell below it', async () => {
    const other = `127.0.0.1:${await findFreePort()}`;
    const data = join(folder, 'data-to-stop');
    const [command = '', ...args] = asNobody('npm', 'start', '--', '--listen', other, '--data-dir', data);
    const started = await startProcess(command, args, {
      cwd: clone,
      env: environment(),
      checkReady: () => checkUrl(`http://${other}/health/ready`),
    });
    const [, pid] = /"pid":(\d+)/.exec(started.readOutput()) ?? [];
    await started.stop();
    const isGone = () => !existsSync(`/proc/${pid}`);
    const isClosed = () =>
      checkUrl(`http://${other}/health/ready`).then(
        () => false,
        () => true,
      );
    try {
      expect([Number(pid) > 0, isGone(), await isClosed()]).toEqual([true, true, true]);
    } finally {
      if (!isGone()) process.kill(Number(pid), 'SIGKILL');
    }
  });

  describe('who makes a mistake at the start, reads of', () => {
    test.each([
      {
        mistake: 'a port in use',
        args: ['--data-dir', 'other'],
        reads: /cannot listen on 127\.0\.0\.1:\d+: .*EADDRINUSE.*; choose another address with --listen/,
      },
      {
        mistake: 'a second service on one data directory',
        args: ['--listen', '127.0.0.1:0'],
        reads: /another Veneer process is using \S+\/\.veneer: stop it first, or name another data directory/,
      },
      {
        mistake: 'a typing error in a key',
        yaml: 'lissen: 127.0.0.1:8080\n',
        reads: /mistake\.yaml:1: lissen: unknown key; did you mean listen\?/,
      },
      {
        mistake: 'a number without a unit',
        yaml: '\ncache: { maxSize: 50 }\n',
        reads: /mistake\.yaml:2: cache\.maxSize: expected none, or a size such as 512KiB, 20MiB or 50GiB/,
      },
      {
        mistake: 'a registry without its scheme',
        yaml: 'upstreams: { lab: { url: "10.0.0.5:5000" } }\n',
        reads:
          /mistake\.yaml:1: upstreams\.lab\.url: expected an http or https URL .*, such as https:\/\/registry\.example:5000/,
      },
      {
        mistake: 'the directory of a layer that is not there',
        yaml: 'rules: [{ name: ca, match: { image: "**" }, layers: [{ directory: ./layers/ca }] }]\n',
        args: ['--listen', '127.0.0.1:0', '--data-dir', 'other'],
        reads: /rules\.0\.layers\.0: there is no \.\/layers\/ca \(\/\S+\/clone\/layers\/ca\)/,
      },
      {
        mistake: 'a configuration that is not there',
        args: ['--config', 'nowhere.yaml'],
        reads: /cannot read \S*nowhere\.yaml \(ENOENT\)/,
      },
      { mistake: 'an unknown command', args: ['tokn'], reads: /unknown command 'tokn'\s+\(Did you mean token\?\)/ },
      {
        mistake: 'an unknown option',
        args: ['build', '--platfrm', 'linux/arm64'],
        reads: /unknown option '--platfrm'\s+\(Did you mean --platform\?\)/,
      },
    ])('$mistake', async ({ yaml, args = [], reads }) => {
      if (yaml !== undefined) await write('mistake.yaml', parse(yaml), yaml);
      const config = yaml === undefined ? [] : ['--config', 'mistake.yaml'];
      expect(await failTo(...config, ...args)).toMatch(reads);
    });

    test.runIf(isRoot)('a data directory of another user', async () => {
      const data = join(folder, 'data-of-root');
      await mkdir(data, { mode: 0o700 });
      expect(await failTo('--listen', '127.0.0.1:0', '--data-dir', data)).toContain(
        `give it to that user (chown -R ${NOBODY} ${data}), or name another directory with --data-dir`,
      );
    });
  });

  describe('who makes a mistake at a pull, reads of', () => {
    test.each([
      [
        'a registry that is spelt wrong',
        'qauy.invalid/team/app/manifests/1',
        /^qauy\.invalid: .*check the name of the registry/,
      ],
      ['a repository that is spelt wrong', 'lab/team/ap/manifests/1', /^lab: team\/ap\/.*: check the name$/],
      [
        'plain HTTP that is called https',
        'tls/team/app/manifests/1',
        /write upstreams\.tls\.url with http:\/\/ if it is plain HTTP/,
      ],
      [
        'a private address without an entry',
        '10.0.0.5/team/app/manifests/1',
        /^10\.0\.0\.5: .*an entry of upstreams opens it/,
      ],
    ])('%s', async (_, path, reads) => {
      expect((await pull(path)).message).toMatch(reads);
    });

    test('a token that has expired', async () => {
      const printed = await type('augment', 'lab/team/app:1', '--env', 'GREETING=later');
      const [, name = ''] = /\/(wt\/\S+):1$/m.exec(printed) ?? [];
      const read = async () => (await pull(`${name}/manifests/1`)).message;
      await expect
        .poll(read)
        .toBe('this token is unknown, has expired or was revoked: submit the request again for a new one');
    });
  });

  describe('who makes a mistake with a command, reads of', () => {
    test.each([
      [
        'a platform that the image lacks',
        ['--platform', 'linux/s390x'],
        /lab\/team\/app:1: no image for linux\/s390x; there is linux\/amd64/,
      ],
      ['a layer that is not there', ['--layer', './nowhere'], /there is no \.\/nowhere/],
      ['a variable without a value', ['--env', 'GREETING'], /--env.*KEY=VALUE|expected .*=/i],
      [
        'no service',
        ['--env', 'A=1', '--server', 'http://127.0.0.1:9'],
        /no service answers at 127\.0\.0\.1:9 .*: start it with `veneer`, or name another with --server/,
      ],
    ])('%s', async (_, options, reads) => {
      expect(await failTo('augment', 'lab/team/app:1', ...options)).toMatch(reads);
    });

    test('Docker that is not told of the mirror', async () => {
      const told = await type('mirror-config', 'docker');
      expect(told).toContain('save as /etc/docker/daemon.json');
      expect(told).toContain(`"http://${address}"`);
    });
  });

  const environment = () => ({
    PATH,
    HOME: folder,
    VENEER_LISTEN: address,
    NODE_COMPILE_CACHE: join(folder, 'compiled'),
  });

  async function write(name: string, value: unknown, text = JSON.stringify(value)): Promise<void> {
    await writeFile(join(clone, name), text);
  }

  function asNobody(...command: readonly string[]): readonly string[] {
    const id = String(NOBODY);
    return isRoot ? ['setpriv', '--reuid', id, '--regid', id, '--clear-groups', ...command] : command;
  }

  /** What is printed, of both kinds, by a command that works. */
  async function type(...args: readonly string[]): Promise<string> {
    const [command = '', ...rest] = asNobody('npm', 'start', '--silent', '--', ...args);
    return run('bash', ['-c', '"$@" 2>&1', 'bash', command, ...rest], { cwd: clone, env: environment() });
  }

  /** The same of one that has to fail. */
  async function failTo(...args: readonly string[]): Promise<string> {
    return type(...args).then(
      printed => {
        throw new Error(`it works: ${printed}`);
      },
      error => String(error.stdout),
    );
  }

  async function pull(path: string): Promise<{ readonly status: number; readonly message: string }> {
    const response = await fetch(`http://${address}/v2/${path}`);
    const { errors = [] } = Object(await response.json());
    return { status: response.status, message: errors[0]?.message ?? '' };
  }
});
