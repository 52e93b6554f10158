// `veneer mirror-config`, as it is typed: the file alone on standard output, what to do with it on standard error.
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { createMirrorConfigCommand } from '../../src/cli/mirror.ts';
import type { OwnMirror } from '../../src/config/mirror-file.ts';
import { describeMirror } from '../../src/config/own-address.ts';
import { configSchema } from '../../src/config/schema.ts';
import { runCommand } from './run.ts';

function mirrorOf(yaml: string): OwnMirror {
  return describeMirror(configSchema({}).parse(parse(yaml) ?? {}));
}

async function run(args: readonly string[], yaml = ''): Promise<{ out: string; err: string; exitCode: number }> {
  return runCommand(createMirrorConfigCommand({ findMirror: () => mirrorOf(yaml) }), args);
}

const QUAY = 'upstreams: { quay.io: {}, lab: { url: "https://lab.example" } }';
const STRICT_QUAY = 'upstreams: { Quay.io: { strict: true } }';

const PLAIN_HOSTS = '[host."http://127.0.0.1:8080"]\n  capabilities = ["pull", "resolve"]\n';
const STRICT_HOSTS = `server = "http://127.0.0.1:8080"\n\n${PLAIN_HOSTS}`;
const HUB_CONF = `[[registry]]
prefix = "docker.io"
location = "docker.io"

[[registry.mirror]]
location = "127.0.0.1:8080/docker.io"
insecure = true
`;
const STRICT_CONF = '[[registry]]\nprefix = "quay.io"\nlocation = "127.0.0.1:8080/quay.io"\ninsecure = true\n';

test('--json has the file, and what to do with it', async () => {
  const { out } = await run(['podman', '--json']);
  expect(JSON.parse(out)).toEqual({ runtime: 'podman', content: HUB_CONF, hints: expect.any(Array) });
});

describe('the file', () => {
  test.each([
    ['docker', [], '', '{\n  "registry-mirrors": [\n    "http://127.0.0.1:8080"\n  ]\n}\n'],
    ['docker', [], QUAY, '{\n  "registry-mirrors": [\n    "http://127.0.0.1:8080"\n  ]\n}\n'],
    ['containerd', [], '', PLAIN_HOSTS],
    ['containerd', ['--strict'], '', STRICT_HOSTS],
    ['containerd', ['--upstream', 'quay.io'], STRICT_QUAY, STRICT_HOSTS],
    ['podman', [], '', HUB_CONF],
    ['crio', [], '', HUB_CONF],
    ['podman', [], STRICT_QUAY, `${HUB_CONF}\n${STRICT_CONF}`],
    ['podman', [], 'upstreams: { "127.0.0.1:5000": {} }', HUB_CONF],
    ['podman', ['--upstream', 'QUAY.io,quay.io', '--strict'], '', STRICT_CONF],
    [
      'crio',
      ['--address', 'https://veneer.example', '--upstream', 'quay.io'],
      '',
      '[[registry]]\nprefix = "quay.io"\nlocation = "quay.io"\n\n[[registry.mirror]]\nlocation = "veneer.example/quay.io"\n',
    ],
  ])('of %s %j, where the configuration is "%s"', async (runtime, options, yaml, content) => {
    expect(await run([runtime, ...options], yaml)).toMatchObject({ out: content, exitCode: 0 });
  });

  test.each([
    ['publicUrl: https://veneer.example', 'https://veneer.example'],
    ['listen: "[::]:9000"', 'http://localhost:9000'],
    ['{ listen: "127.0.0.1:0", publicUrl: "http://veneer.example:81" }', 'http://veneer.example:81'],
  ])('has the address of a configuration %s', async (yaml, address) => {
    expect((await run(['docker'], yaml)).out).toContain(`"${address}"`);
  });
});

describe('beside it', () => {
  test.each([
    ['docker', [], ['save as /etc/docker/daemon.json; if that exists, add the key to it', 'systemctl reload docker']],
    ['docker', ['--strict'], ['strict: while Veneer is unreachable, dockerd falls back to Docker Hub']],
    [
      'containerd',
      ['--upstream', 'docker.io,quay.io'],
      ['/etc/containerd/certs.d/docker.io/hosts.toml and /etc/containerd/certs.d/quay.io/hosts.toml', 'config_path'],
    ],
    ['podman', [], ['/etc/containers/registries.conf.d/veneer.conf', 'no restart needed']],
    ['crio', [], ['/etc/containers/registries.conf.d/veneer.conf', 'systemctl reload crio']],
  ])('%s %j is told where it goes, and what is to be done then', async (runtime, options, hints) => {
    const { err } = await run([runtime, ...options]);
    for (const hint of hints) expect(err).toContain(hint);
  });
});

describe('what cannot be is refused, and no file is printed', () => {
  test.each([
    [
      'another registry by dockerd',
      ['docker', '--upstream', 'quay.io'],
      '',
      'dockerd can only mirror docker.io, not quay.io',
    ],
    [
      'dockerd with another default',
      ['docker'],
      'defaultUpstream: quay.io',
      'defaultUpstream is quay.io: set it to docker.io',
    ],
    ['dockerd with no default', ['docker'], 'defaultUpstream: none', 'defaultUpstream is none: set it to docker.io'],
    ['one containerd file for two', ['containerd'], STRICT_QUAY, 'quay.io is strict and the others are not'],
    ['no address', ['podman'], 'listen: "127.0.0.1:0"', 'does not say where Veneer is reachable: give --address'],
    ['an address with a path', ['podman', '--address', 'http://veneer.example/path'], '', 'expected http://host:port'],
    [
      'an address with a password',
      ['podman', '--address', 'http://a:b@veneer.example'],
      '',
      'expected http://host:port',
    ],
    ['no address at all', ['podman', '--address', 'veneer.example'], '', 'expected http://host:port'],
    ['an alias', ['podman', '--upstream', 'lab'], QUAY, '"lab" is not a registry host'],
    ['what would break out of the file', ['podman', '--upstream', 'a.io"'], '', 'is not a registry host'],
    [
      'a port in a path',
      ['podman', '--upstream', 'quay.io,127.0.0.1:5000'],
      '',
      '127.0.0.1:5000: a path cannot contain a port',
    ],
    ['another runtime', ['rkt'], '', 'Allowed choices are docker, containerd, podman, crio'],
  ])('%s', async (_, args, yaml, reason) => {
    const { out, err, exitCode } = await run(args, yaml);
    expect({ out, exitCode }).toEqual({ out: '', exitCode: 1 });
    expect(err).toContain(reason);
  });
});
