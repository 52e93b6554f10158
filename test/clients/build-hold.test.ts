// What real clients do with a pull that is held: sent away while the build continues, they get the image with the next pull.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BuildsClient, containerFile, createBuildsClient } from './support/builds.ts';
import { clientPath, findMissing } from './support/clients.ts';
import { type Server, startContainerd, startDocker, startVeneer } from './support/daemons.ts';
import { createEnvironment, ENVIRONMENT_COMMANDS, type Environment } from './support/environment.ts';
import { type Gate, startGate } from './support/gate.ts';
import { run, startProcess, waitUntil } from './support/process.ts';
import { type Relay, startRelay } from './support/relay.ts';

const missing = findMissing([...ENVIRONMENT_COMMANDS, 'dockerd', 'docker', 'containerd', 'ctr', 'podman', 'skopeo']);
const SHORT_HOLD = { token: '2s', pull: '2s' };
const GOES_ON = /the image is still being built: bd-[0-9a-f]{16}_1 is still running, and its log is http:/;
const REASON =
  /manifest.unknown: the build bd-[0-9a-f]{16}_1 failed: \[linux\/amd64 RUN exit 3\] .*3; its log is http:/i;

/** How often it asks in one pull, and what its user reads of a 503 and of a 404. */
const CLIENTS = [
  { client: 'docker', asks: 2, unavailable: GOES_ON, unknown: REASON },
  { client: 'containerd', asks: 1, unavailable: GOES_ON, unknown: 'not found' },
  { client: 'podman', asks: 1, unavailable: GOES_ON, unknown: REASON },
  { client: 'skopeo', asks: 1, unavailable: GOES_ON, unknown: REASON },
  { client: 'crane', asks: 3, unavailable: GOES_ON, unknown: REASON },
] as const;

describe.skipIf(missing)(`held pulls${missing ? ` (${missing})` : ''}`, { timeout: 240_000 }, () => {
  let environment: Environment;
  let gate: Gate;
  let recipes: readonly object[];
  let relay: Relay;
  let builds: BuildsClient;
  let docker = { host: '' };
  let containerd = { socket: '' };

  beforeAll(async () => {
    environment = await createEnvironment();
    gate = await environment.keep(startGate());
    docker = await environment.keep(startDocker(environment.folder));
    containerd = await environment.keep(startContainerd(environment.folder));
    recipes = await writeRecipes(join(environment.folder, 'recipes'));
    relay = await environment.keep(startRelay((await serve({ hold: SHORT_HOLD })).address));
    builds = createBuildsClient(relay.address);
  }, 120_000);

  afterAll(() => environment?.close(), 60_000);

  test.each(CLIENTS)('$client is sent away, the build continues, and the next pull gets the image', async one => {
    const { client, asks, unavailable } = one;
    const [image, mark] = [`${relay.address}/local/held/${client}:1`, `${client}-1`];
    await expect(pull(client, image)).rejects.toThrow(unavailable);
    await gate.arrive(mark);
    expect(relay.count(new RegExp(`/held/${client}/manifests/1$`))).toBe(asks);
    const [build] = await builds.list();
    expect(build).toMatchObject({ status: 'running', targetImage: image });
    gate.open(mark);
    expect(await builds.awaitEnd({ buildId: build?.buildId ?? '' })).toMatchObject({ status: 'succeeded', starts: 1 });
    await pull(client, image);
  });

  test('docker is sent away by a token too, and gets the image with the next pull', async () => {
    const submitted = await builds.submit({
      containerFile: containerFile(`FROM ${environment.source}`, `RUN ${gate.command('token')}`),
    });
    await expect(pull('docker', submitted.targetImage)).rejects.toThrow(GOES_ON);
    await gate.arrive('token');
    gate.open('token');
    await builds.awaitEnd(submitted);
    expect(await pull('docker', submitted.targetImage)).toContain('Digest: sha256:');
  });

  test('HEAD waits as GET does, and both are told when to come again', async () => {
    const url = `http://${relay.address}/v2/local/held/both/manifests/1`;
    const askBoth = () => Promise.all(['HEAD', 'GET'].map(method => fetch(url, { method })));
    const away = await askBoth();
    expect(away.map(({ status, headers }) => [status, headers.get('retry-after')])).toEqual([
      [503, '15'],
      [503, '15'],
    ]);
    const [head, body] = await Promise.all(away.map(answer => answer.text()));
    expect(head).toBe('');
    expect(JSON.parse(body ?? '')).toMatchObject({
      errors: [{ code: 'UNAVAILABLE', message: expect.stringMatching(GOES_ON) }],
    });
    gate.open('both-1');
    let there = await askBoth();
    // On a slow machine the build may take longer than they are held.
    while (there.some(({ status }) => status === 503)) there = await askBoth();
    const digests = there.map(({ status, headers }) => [status, headers.get('docker-content-digest')]);
    expect(digests).toEqual([200, 200].map(status => [status, expect.stringMatching(/^sha256:/)]));
    expect(digests[0]).toEqual(digests[1]);
    await Promise.all(there.map(answer => answer.arrayBuffer()));
  });

  test.each(CLIENTS)('$client says what it can of a build that failed', async ({ client, unknown }) => {
    await expect(pull(client, `${relay.address}/local/broken/tool:1`)).rejects.toThrow(unknown);
  });

  test('a connection may be silent as long as its pull is held, and not in the middle of a request', async () => {
    const veneer = await serve({ hold: SHORT_HOLD }, { limits: { idleConnection: '1s' } });
    const held = await fetch(`http://${veneer.address}/v2/local/held/silent/manifests/1`);
    expect(held.status).toBe(503);
    await held.arrayBuffer();
    gate.open('silent-1');
    const [host, port] = veneer.address.split(':');
    const stalled = connect(Number(port), host);
    const head = ['POST /v1alpha2/container HTTP/1.1', `host: ${host}`, 'content-type: application/json'];
    stalled.write([...head, 'content-length: 2', '', '{'].join('\r\n'));
    expect(await text(stalled)).toBe('');
  });

  test('a client that leaves frees its connection, and the build continues', async () => {
    // The builder keeps its own connections for the next request, for as long as they are let.
    const veneer = await serve({}, { limits: { keepAlive: '1s' } });
    const image = `${veneer.address}/local/held/left:1`;
    const client = await startProcess(clientPath('crane'), ['digest', '--insecure', image], {
      checkReady: () => gate.arrive('left-1'),
    });
    expect(await countConnections(veneer)).toBeGreaterThan(0);
    await client.kill();
    await waitUntil(async () => expect(await countConnections(veneer)).toBe(0));
    expect(gate.countWaiting('left-1')).toBe(1);
    gate.open('left-1');
    const own = createBuildsClient(veneer.address);
    const [build] = await own.list();
    expect(await own.awaitEnd({ buildId: build?.buildId ?? '' })).toMatchObject({ status: 'succeeded', starts: 1 });
    expect(await pull('crane', image)).toContain('"layers"');
  });

  function serve(builds: object, settings: object = {}): Promise<Server> {
    const backends = [{ kind: 'buildkit', address: environment.buildkit, hostNetwork: true }];
    return environment.keep(
      startVeneer(environment.folder, environment.registry, { builds: { backends, recipes, ...builds }, ...settings }),
    );
  }

  /** The recipes of the configuration. */
  async function writeRecipes(folder: string): Promise<readonly object[]> {
    const held = `FROM ${environment.source}\nARG MARK\nRUN ${gate.command('$MARK')}\n`;
    await mkdir(folder);
    await writeFile(join(folder, 'held'), held);
    await writeFile(join(folder, 'broken'), `FROM ${environment.source}\nRUN exit 3\n`);
    return [
      {
        match: 'local/held/{name}:{version}',
        containerFile: join(folder, 'held'),
        args: { MARK: '{name}-{version}' },
      },
      { match: 'local/broken/{name}:{version}', containerFile: join(folder, 'broken') },
    ];
  }

  function pull(client: (typeof CLIENTS)[number]['client'], image: string): Promise<string> {
    const storage = ['--root', join(environment.folder, 'podman'), '--runroot', join(environment.folder, 'podman-run')];
    const commands = {
      docker: () => run('docker', ['-H', docker.host, 'pull', image]),
      containerd: () => run('ctr', ['--address', containerd.socket, 'content', 'fetch', '--plain-http', image]),
      podman: () => run('podman', [...storage, '--storage-driver', 'vfs', 'pull', '--tls-verify=false', image]),
      skopeo: () => run('skopeo', ['inspect', '--tls-verify=false', `docker://${image}`]),
      crane: () => run(clientPath('crane'), ['manifest', '--insecure', image]),
    };
    return commands[client]();
  }
});

/** Those from clients to the server that are not closed on both sides, by the kernel's own table. */
async function countConnections({ address }: Server): Promise<number> {
  const [TIME_WAIT, LISTEN] = ['06', '0A'];
  const port = Number(address.split(':')[1]).toString(16).toUpperCase().padStart(4, '0');
  const sockets = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map(line => line.trim().split(/\s+/));
  const own = sockets.filter(([, local]) => local?.endsWith(`:${port}`));
  return own.filter(([, , , state]) => state !== TIME_WAIT && state !== LISTEN).length;
}
