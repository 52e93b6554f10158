// The commands as processes: where they find the service and who asks, and an interrupt by hand.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BUILD_ID, type BuildService, startBuildService } from './build-service.ts';

const MAIN = join(import.meta.dirname, '../../src/main.ts');

let service: BuildService;
let folder: string;
let children: ChildProcess[];

beforeEach(async () => {
  service = await startBuildService();
  folder = await mkdtemp(join(tmpdir(), 'veneer-process-'));
  await writeFile(join(folder, 'Dockerfile'), 'FROM scratch\n');
  children = [];
});

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  await service.close();
  await rm(folder, { recursive: true });
});

function start(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const { VENEER_CONFIG: _, VENEER_URL: __, VENEER_TOKEN: ___, VENEER_LISTEN: ____, ...rest } = process.env;
  const child = spawn(process.execPath, [MAIN, ...args], { cwd: folder, env: { ...rest, ...env }, stdio: 'pipe' });
  children.push(child);
  return { child, ended: Promise.all([text(child.stdout), text(child.stderr), once(child, 'exit')]) };
}

test('VENEER_URL says where the service is, VENEER_TOKEN who asks', async () => {
  const env = { VENEER_URL: service.url.href, VENEER_TOKEN: 'ada:secret' };
  const [out, err, [exitCode]] = await start(['builds', 'ls'], env).ended;
  expect({ err, exitCode }).toEqual({ err: '', exitCode: 0 });
  expect(out).toContain(BUILD_ID);
  expect(service.requests).toMatchObject([{ authorization: `Basic ${btoa('ada:secret')}` }]);
});

test('without it the service is where the configuration has it listen', async () => {
  const args = ['--listen', service.url.host, 'build', '.'];
  const [out, , [exitCode]] = await start(args).ended;
  expect([out, exitCode]).toEqual([`${service.url.host}/wt/0123456789ab/local/builds:1\n`, 0]);
});

test('SIGINT leaves the build alone, and says how to end it', async () => {
  service.answer = { buildId: BUILD_ID };
  const entry = { at: '2030-01-01T00:00:00Z', kind: 'note', text: 'it begins' } as const;
  service.log = [{ entries: [entry], ends: 'hang' }];
  const { child, ended } = start(['build', '.', '--server', service.url.href]);
  await once(child.stderr, 'data');
  child.kill('SIGINT');
  const [out, err, [exitCode]] = await ended;
  expect([out, exitCode]).toEqual(['', 130]);
  expect(err).toContain(`cancel it with \`veneer builds cancel ${BUILD_ID}\``);
  expect(service.requests.filter(({ method, path }) => method === 'POST' && path.includes('/builds/'))).toEqual([]);
});
