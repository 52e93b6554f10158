// A Veneer between a runtime and Docker Hub, with rules in its own veneer.yaml, as their operator writes and changes them.
import { mkdir, mkdtemp, rename, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, vi } from 'vitest';
import { stringify } from 'yaml';
import { type Explanation, explanationSchema } from '../../../src/rules/explanation.ts';
import { makeTar } from './augment.ts';
import type { Server } from './daemons.ts';
import type { Environment } from './environment.ts';
import { checkUrl, findFreePort, run, startProcess } from './process.ts';

export interface Ruled extends Server {
  /** In place of the rules before, as an editor saves a file. Nothing is restarted. */
  writeRules(...rules: readonly object[]): Promise<void>;
  /** Of the layer that is a directory. */
  writeCertificate(text: string): Promise<void>;
  /** In place of all that veneer.yaml says. */
  writeConfiguration(text: string): Promise<void>;
  /** Does it, and resolves with the first line that the log then has of the message. */
  logs(message: string, change: () => Promise<void>): Promise<string>;
  /** What `veneer rules explain --json` says of an image of Docker Hub. */
  explain(name: string): Promise<Explanation>;
  /** By `veneer cache prune`: of what came from upstreams, nothing is left. */
  emptyCache(): Promise<void>;
  /** At the same address, with the same files. */
  restart(): Promise<void>;
}

const CERTIFICATE = '/etc/ssl/certs/corporate.pem';

/** What makes itself seen: for all platforms, for one of them, by platform, by caller, and not at all. `plain` is left alone. */
export const RULES = [
  {
    name: 'corporate-ca',
    match: { image: 'docker.io/**', not: 'docker.io/library/plain*' },
    layers: [{ directory: './layers/ca' }, { file: './layers/tool-arm64.tar.gz', platforms: ['linux/arm64'] }],
    env: { SSL_CERT_FILE: CERTIFICATE },
    labels: { 'com.example.audit': '2026' },
  },
  { name: 'arm', match: { image: '**/app', platform: 'linux/arm*' }, env: { ARM: 'yes' }, labels: { arm: 'yes' } },
  { name: 'unnamed', match: { image: '**/app', caller: 'anonymous' }, env: { CALLER: 'anonymous' } },
  { name: 'staging', match: { image: '**', caller: 'staging-*' }, env: { CALLER: 'staging' } },
] as const;

/** Prints what the rules change, and where it runs. */
export const COMMAND = `busybox uname -m
echo "$SSL_CERT_FILE $ARM $CALLER"
for file in ${CERTIFICATE} /opt/veneer/hello; do busybox cat $file 2>/dev/null || echo none; done`;

/** What it prints; without a certificate, in an image that no rule has changed. */
export function printedOf(machine: string, certificate?: string, caller = 'anonymous'): string {
  if (certificate === undefined) return `${machine}\n  \nnone\nnone`;
  const variables = `${CERTIFICATE} ${machine === 'x86_64' ? '' : 'yes'} ${caller}`;
  return `${machine}\n${variables}\n${certificate}\n${machine === 'aarch64' ? 'hello' : 'none'}`;
}

export interface RuledOptions {
  readonly environment: Environment;
  readonly isStrict?: boolean;
  readonly rules?: readonly object[];
  /** Further keys of veneer.yaml. */
  readonly settings?: Readonly<Record<string, unknown>>;
}

/** The environment's registry is Docker Hub to it. */
export async function startRuled({
  environment,
  isStrict = false,
  rules = RULES,
  settings,
}: RuledOptions): Promise<Ruled> {
  const folder = await mkdtemp(join(environment.folder, 'ruled-'));
  const address = `127.0.0.1:${await findFreePort()}`;
  const main = resolve('src/main.ts');
  const upstreams = { 'docker.io': { url: `http://${environment.registry}`, strict: isStrict } };
  const others = { listen: address, dataDir: './data', upstreams, cache: { tagFreshness: '0s' }, ...settings };

  const writeRules = (...next: readonly object[]) => writeConfiguration(stringify({ ...others, rules: next }));
  const writeConfiguration = (text: string) => replace('veneer.yaml', text);
  const writeCertificate = (text: string) => replace(`layers/ca${CERTIFICATE}`, `${text}\n`);
  const veneer = (...args: readonly string[]) => run(process.execPath, [main, ...args], { cwd: folder });
  const start = () =>
    startProcess(process.execPath, [main], {
      cwd: folder,
      checkReady: () => checkUrl(`http://${address}/health/ready`),
    });

  async function replace(name: string, content: string | Buffer): Promise<void> {
    await writeFile(join(folder, 'next'), content);
    await rename(join(folder, 'next'), join(folder, name));
  }

  await mkdir(join(folder, 'layers/ca/etc/ssl/certs'), { recursive: true });
  await writeCertificate('first');
  await replace('layers/tool-arm64.tar.gz', gzipSync(await makeTar()));
  await writeRules(...rules);
  let running = await start();
  await environment.keep(Promise.resolve({ stop: () => running.stop() }));

  return {
    address,
    writeRules,
    writeCertificate,
    writeConfiguration,
    async logs(message, change) {
      const find = () =>
        running
          .readOutput()
          .split('\n')
          .filter(line => line.includes(message));
      const { length } = find();
      await change();
      return vi.waitUntil(() => find()[length], { timeout: 40_000, interval: 100 });
    },
    async explain(name) {
      const options = ['--json', '--server', `http://${address}`];
      return explanationSchema.parse(JSON.parse(await veneer('rules', 'explain', `docker.io/${name}`, ...options)));
    },
    async emptyCache() {
      await veneer('cache', 'prune', '--to', '1B');
      const { bytes } = JSON.parse(await veneer('cache', 'stat', '--json'));
      expect(bytes).toBe(0);
    },
    async restart() {
      await running.stop();
      running = await start();
    },
    stop: () => running.stop(),
  };
}
